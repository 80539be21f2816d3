"""Tables that fit the terminal without cutting anything, in the characters that it has."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import pytest
import typer
from typer.testing import CliRunner

import service.cli
from service.__main__ import main
from service.cli import app
from service.cli.terminal import Sheet, line

NAME = "shapes-lightningdit-compact-0123456789abcdef"
SHEET = Sheet(
    ["model", "drift ↓", "Fréchet"],
    [["baseline", "–", "1"], [NAME, "0.125\n±0.5", "2"]],
    title="A title that is wider than the terminal and is wrapped",
    caption="100 %",
)
LIST = Sheet(
    ["id", "kind", "created", "title"], [[NAME, "study", "today", "x"]], borders=False, expendable=["title", "kind"]
)


Printed = Callable[[], list[str]]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Printed:
    """The lines that are written to stdout, which is no terminal."""
    monkeypatch.delenv("COLUMNS", raising=False)
    return lambda: capsys.readouterr().out.splitlines()


def encoded(monkeypatch: pytest.MonkeyPatch, encoding: str) -> io.BytesIO:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, write_through=True))
    return raw


@pytest.mark.parametrize("width", [20, 40, 50, 80, 120])
@pytest.mark.parametrize("sheet", [SHEET, LIST])
def test_no_name_is_cut_at_any_width(
    printed: Printed, monkeypatch: pytest.MonkeyPatch, sheet: Sheet, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    sheet.print()
    text = "\n".join(printed())
    assert NAME in text
    assert "…" not in text


def test_what_is_piped_is_as_wide_as_its_lines(printed: Printed) -> None:
    Sheet(["name", "value"], [["x" * 100, "y" * 100]], borders=False).print()
    assert printed()[1].split() == ["x" * 100, "y" * 100]


def test_columns_that_matter_least_are_left_out_first(printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "56")
    LIST.print()
    assert printed()[0].split() == ["id", "created"]


def test_a_table_that_is_too_wide_is_shown_row_by_row(printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    SHEET.print()
    assert printed()[4:8] == [NAME, "  drift ↓: 0.125 ±0.5", "  Fréchet: 2", "100 %"]


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp1252", "gbk"])
@pytest.mark.parametrize("width", ["40", "120"])
def test_tables_are_written_in_the_characters_that_there_are(
    monkeypatch: pytest.MonkeyPatch, encoding: str, width: str
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    raw = encoded(monkeypatch, encoding)
    SHEET.print()
    text = raw.getvalue().decode(encoding)
    assert NAME in text
    if encoding == "ascii":
        assert "drift v" in text
        assert "+-0.5" in text
        assert "Frechet" in text


def test_a_name_in_letters_that_there_are_not_is_written_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = encoded(monkeypatch, "ascii")
    line("猫 and \udcff")
    assert raw.getvalue() == b"\\u732b and \\udcff\n"


def commands() -> list[list[str]]:
    """All commands, and the groups of them."""
    top = typer.main.get_command(app)
    groups = ("jobs", "models")
    inner = [[group, name] for group in groups for name in top.commands[group].commands]
    return [[], *([name] for name in top.commands), *inner]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
@pytest.mark.parametrize("width", ["40", "50", "80"])
def test_the_help_of_every_command_names_its_options_whole_in_ascii(
    monkeypatch: pytest.MonkeyPatch, command: list[str], width: str
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    said = CliRunner(charset="ascii").invoke(app, [*command, "--help"])
    assert said.exit_code == 0, said.output
    assert said.stdout.isascii()
    assert "--help" in said.stdout
    if command == ["prune-sample"]:
        assert "--guidance-interval" in said.stdout


def test_the_version_is_printed() -> None:
    said = CliRunner().invoke(app, ["--version"])
    assert (said.exit_code, said.stdout.split()[0]) == (0, "tailprune")
    assert said.stdout.split()[1][0].isdigit()


def test_a_word_that_is_none_of_the_choices_is_refused_without_a_preface() -> None:
    said = CliRunner().invoke(app, ["jobs", "list", "--status", "done"])
    assert said.exit_code == 2
    assert "Invalid value for '--status': 'done' is not one of 'queued'" in said.stderr


def test_a_command_whose_stdout_is_closed_does_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.delenv("TAILPRUNE_URL", raising=False)
    assert app(["models", "list"], standalone_mode=False) is None


def test_ctrl_c_while_modules_are_imported_ends_the_command_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Interrupting:
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "service.cli", Interrupting())
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        (
            "from service.cli import app; app(['--help'], standalone_mode=False)",
            "celery fastapi httpx pydantic redis rich",
        ),
        ("import service.cli.serve", "celery fastapi httpx numpy"),
    ],
    ids=["the list of commands", "serve"],
)
def test_a_command_imports_nothing_that_it_does_not_need(
    run_python: Callable[[str], str], code: str, absent: str
) -> None:
    run_python(f"import sys; {code}; found = sys.modules.keys() & set({absent.split()}); assert not found, found")


def test_a_command_that_is_interrupted_while_it_is_imported_ends_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    service.cli._command.cache_clear()
    monkeypatch.setattr("service.cli.import_module", interrupted)
    assert CliRunner().invoke(app, ["keys", "list"]).exit_code == 130
