import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from jobs.store.connection import server_command
from service.cli.supervisor import ChildFailed, Program, Supervisor
from tests.redis_process import RedisProcess
from tests.service.cli.conftest import Children

STEADY = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {STEADY}"


def python(name: str, code: str) -> Program:
    return Program(name, [sys.executable, "-c", code])


@pytest.fixture
def supervisor(processes: None, tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path / "logs")
    yield supervisor
    supervisor.stop(["one", "two"], grace_seconds=0)


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)


def says_up(supervisor: Supervisor, name: str, times: int = 1) -> Callable[[], bool]:
    assert supervisor.log_folder is not None
    log = supervisor.log_folder / f"{name}.log"
    return lambda: log.exists() and log.read_text().count("up") == times


def test_a_killed_child_is_started_again(supervisor: Supervisor, children: Children) -> None:
    supervisor.start(python("one", STEADY))
    eventually(says_up(supervisor, "one"))
    (first,) = children()
    first.kill()
    died: list[tuple[str, str]] = []
    eventually(lambda: bool(died.extend(supervisor.tend()) or says_up(supervisor, "one", times=2)()))
    assert died == [("one", "killed by SIGKILL")]
    (second,) = children()
    assert second.pid != first.pid


def test_a_child_that_keeps_dying_is_given_up_with_its_last_words(supervisor: Supervisor) -> None:
    supervisor.start(python("one", "import sys; print('no such model'); sys.exit(3)"))
    with pytest.raises(ChildFailed, match=r"one does not stay up \(exit status 3\).*\s+no such model"):
        eventually(lambda: bool(supervisor.tend(deaths_allowed=1) and False))


def test_while_programs_come_up_a_long_life_does_not_make_up_for_a_death(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.cli.supervisor.QUICK_DEATH_SECONDS", 0.0)  # every life is a long one
    monkeypatch.setattr("service.cli.supervisor.FIRST_DELAY_SECONDS", 0.01)
    supervisor.start(python("one", "import sys; sys.exit(3)"))
    died: list[tuple[str, str]] = []
    with pytest.raises(ChildFailed, match="one does not stay up"):
        eventually(lambda: bool(died.extend(supervisor.tend(deaths_allowed=2)) and False))
    assert died == [("one", "exit status 3")] * 2


def test_once_programs_are_up_a_child_may_die_as_often_as_it_does(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.cli.supervisor.FIRST_DELAY_SECONDS", 0.01)
    supervisor.start(python("one", f"import sys; sys.exit({os.EX_CONFIG})"))
    died: list[tuple[str, str]] = []
    eventually(lambda: bool(died.extend(supervisor.tend()) or len(died) == 4))


def test_a_child_that_says_that_it_cannot_start_is_not_started_again(supervisor: Supervisor) -> None:
    supervisor.start(python("one", f"import sys; print('tailprune: no such device'); sys.exit({os.EX_CONFIG})"))
    with pytest.raises(ChildFailed, match=r"^one cannot start: no such device$"):
        eventually(lambda: bool(supervisor.tend(deaths_allowed=2) and False))


def test_stopping_asks_first_and_kills_what_does_not_listen(supervisor: Supervisor, children: Children) -> None:
    supervisor.start(python("one", STEADY))
    supervisor.start(python("two", STUBBORN))
    eventually(says_up(supervisor, "one"))
    eventually(says_up(supervisor, "two"))
    assert supervisor.stop(["one", "two"], grace_seconds=0.5) == ["two"]
    assert children() == []


def test_a_second_request_cuts_the_grace_short(supervisor: Supervisor) -> None:
    supervisor.start(python("two", STUBBORN))
    eventually(says_up(supervisor, "two"))
    # Without the hurry it would stop of itself in a minute, and not be killed.
    assert supervisor.stop(["two"], grace_seconds=math.inf, hurry=lambda: True) == ["two"]


def test_children_do_not_hear_the_terminals_interrupt(supervisor: Supervisor, children: Children) -> None:
    supervisor.start(python("one", STEADY))
    (child,) = children()
    assert os.getpgid(child.pid) == child.pid != os.getpgid(0)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells children of their parent's death on Linux alone")
def test_children_of_a_killed_supervisor_stop(processes: None, tmp_path: Path) -> None:
    code = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from service.cli.supervisor import Program, Supervisor
        supervisor = Supervisor(Path({str(tmp_path)!r}))
        supervisor.start(Program("one", [sys.executable, "-c", {STEADY!r}]))
        time.sleep(60)
    """)
    parent = subprocess.Popen([sys.executable, "-c", code])
    log = tmp_path / "one.log"
    try:
        eventually(lambda: log.exists() and "up" in log.read_text())
        (child,) = psutil.Process(parent.pid).children()
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_a_great_log_is_set_aside_at_the_start(
    processes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.cli.supervisor.LOG_BYTES", 10)
    (tmp_path / "one.log").write_text("more than ten bytes")
    supervisor = Supervisor(tmp_path)
    supervisor.start(python("one", "print('new')"))
    eventually(lambda: "new" in (tmp_path / "one.log").read_text())
    supervisor.stop(["one"], grace_seconds=1)
    assert (tmp_path / "one.log.1").read_text() == "more than ten bytes"


LOGS = """
import structlog, sys
from jobs.logging import configure_logging
from jobs.settings import get_settings
configure_logging(get_settings())
print("printed first", flush=True)
for number in range(3000):
    structlog.get_logger("one").info("line", number=number)
print("printed last", flush=True)
"""


def test_a_log_that_grows_large_is_moved_away_while_its_program_runs_and_no_line_is_lost(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.cli.supervisor.LOG_BYTES", 4096)
    monkeypatch.setattr("service.cli.supervisor.LOGS_KEPT", 10_000)
    supervisor.start(python("one", LOGS))
    folder = supervisor.log_folder
    assert folder is not None

    def text() -> str:
        def age(file: Path) -> int:
            return int(file.suffix[1:]) if file.suffix != ".log" else 0

        return "".join(file.read_text() for file in sorted(folder.glob("one.log*"), key=age, reverse=True))

    def ends() -> bool:
        supervisor.tend()
        return "printed last" in text()

    eventually(ends, seconds=60)
    assert len([*folder.glob("one.log.*")]) > 0
    found = text()
    assert [int(number) for number in re.findall(r"number=(\d+)", found)][:3000] == [*range(3000)]
    assert found.startswith("printed first")


def test_of_a_log_that_grows_without_end_the_newest_files_are_kept(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.cli.supervisor.LOG_BYTES", 100)
    supervisor.start(python("one", STEADY))
    folder = supervisor.log_folder
    assert folder is not None
    for number in range(9):
        (folder / "one.log").write_text(f"{number}" * 101)
        supervisor.tend()
    assert {file.name: file.read_text()[0] for file in folder.iterdir()} == {
        "one.log.1": "8", "one.log.2": "7", "one.log.3": "6", "one.log.4": "5"
    }  # fmt: skip


def test_redis_opens_its_log_anew_where_it_was_moved_away(own_redis: RedisProcess, tmp_path: Path) -> None:
    log = tmp_path / "redis.log"
    own_redis.stop()
    own_redis.start("--logfile", str(log))
    moved = log.rename(tmp_path / "redis.log.1")
    own_redis.stop()
    assert moved.stat().st_size > 0
    assert "exit" in log.read_text()
    assert str(log) in server_command(1, tmp_path, log)
