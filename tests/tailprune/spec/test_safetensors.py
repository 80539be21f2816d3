"""Headers of safetensors files, written and read."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import deserialize

from tailprune.spec import safetensors
from tailprune.spec.safetensors import StoredTensor, encode_header, read_header, write_file

TENSORS = {"b": ("F32", (2, 3), 24), "a": ("I64", (), 8), "none": ("F16", (0, 4), 0)}
DATA = bytes(range(32))


def raw(header: Any) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


def test_a_header_is_read_as_it_was_written() -> None:
    content = encode_header(TENSORS, {"b": "ü", "a": ""})
    header = read_header(io.BytesIO(content + DATA))
    assert header.size == len(content)
    assert header.metadata == {"b": "ü", "a": ""}
    assert header.tensors == {
        "b": StoredTensor("F32", (2, 3), len(content), len(content) + 24),
        "a": StoredTensor("I64", (), len(content) + 24, len(content) + 32),
        "none": StoredTensor("F16", (0, 4), len(content) + 32, len(content) + 32),
    }
    assert [list(header.tensors), list(header.metadata)] == [["b", "a", "none"], ["b", "a"]]


def test_a_header_is_what_the_library_reads() -> None:
    found = dict(deserialize(encode_header(TENSORS, {"a": "ü"}) + DATA))
    assert {name: (each["dtype"], tuple(each["shape"]), len(each["data"])) for name, each in found.items()} == TENSORS
    assert bytes(found["a"]["data"]) == DATA[24:]


def test_the_bytes_of_a_header_stay_what_they_are() -> None:
    text = b'{"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  '
    assert encode_header({"b": ("F32", (1,), 4)}) == len(text).to_bytes(8, "little") + text
    assert encode_header({}, {"a": "ü"})[8:] == b'{"__metadata__":{"a":"\\u00fc"}} '.ljust(32)
    assert encode_header({}, {"a": "ü"}, ascii_only=False)[8:] == '{"__metadata__":{"a":"ü"}}'.encode().ljust(32)
    assert (encode_header({})[8:], encode_header({}, {})[8:]) == (b"{}".ljust(8), b'{"__metadata__":{}}'.ljust(24))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"weights", id="shorter than a length"),
        pytest.param(encode_header(TENSORS)[:-1], id="cut short"),
        pytest.param((9).to_bytes(8, "little") + b"no json..", id="no JSON"),
        pytest.param((2).to_bytes(8, "little") + b"\xff\xff", id="no text"),
        pytest.param((10**5).to_bytes(8, "little") + b"[" * 10**5, id="nested too deep"),
        pytest.param(raw([]), id="a list"),
        pytest.param(raw({"__metadata__": {"a": 1}}), id="metadata of numbers"),
        pytest.param(raw({"__metadata__": "a"}), id="metadata of a text"),
        *(
            pytest.param(raw({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | change}), id=str(change))
            for change in (
                {"dtype": 32},
                {"shape": [1.0]},
                {"shape": [True]},
                {"shape": [-1]},
                {"shape": "1"},
                {"data_offsets": [4]},
                {"data_offsets": [4, 0]},
                {"data_offsets": [-4, 0]},
                {"data_offsets": ["0", "4"]},
                {"data_offsets": None},
            )
        ),
    ],
)
def test_what_is_no_header_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_header(io.BytesIO(content))


def test_a_header_that_is_too_long_is_refused_unread() -> None:
    file = io.BytesIO((safetensors.MOST_HEADER_BYTES + 1).to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match="longer than the limit of 104857600"):
        read_header(file)
    assert file.tell() == 8


def test_a_file_that_is_not_written_whole_leaves_the_one_before(tmp_path: Path) -> None:
    def failing() -> Any:
        yield b"one"
        raise KeyboardInterrupt

    (tmp_path / "a").write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "a", b"header", failing())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"before"}


def test_the_vocabulary_needs_no_numbers(run_python: Callable[[str], str]) -> None:
    code = (
        "import sys, tailprune.spec.safetensors, tailprune.spec.hub, tailprune.spec.layouts, tailprune.spec.families; "
        "assert not sys.modules.keys() & {'torch', 'numpy', 'pydantic', 'safetensors', 'huggingface_hub'}"
    )
    run_python(code)
