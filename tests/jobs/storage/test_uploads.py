"""Uploaded conditions: one form for the same numbers, and everything that is wrong in one answer."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from hypothesis import given as drawn
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies
from safetensors.numpy import load

from jobs.problems import InvalidRequest
from jobs.requests.fields import CONDITIONS_PATTERN
from jobs.settings import Settings
from jobs.storage.artifacts import ArtifactStore
from jobs.storage.condition_files import Conditions, described
from jobs.storage.upload_parsing import parse
from jobs.storage.uploads import ConditionStore, UnknownConditions
from jobs.store.connection import connect
from tests.condition_files import PERSON, TEXT, VIDEO, Arrays, arrays, npz, safetensors

ROOT = Path(__file__).parents[3]
LIMITS = Settings()
PACKERS = {"safetensors": safetensors, "npz": npz, "npz, packed": lambda given: npz(given, compressed=True)}

every_packer = pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)


def faults(content: bytes, **limits: int) -> dict[str, str]:
    """What is wrong with a file, by location; each location once."""
    with pytest.raises(InvalidRequest) as caught:
        parse(content, LIMITS.model_copy(update=limits))
    said = {fault.location: fault.message for fault in caught.value.faults}
    assert len(said) == len(caught.value.faults)
    return said


def fault(content: bytes, location: str, **limits: int) -> str:
    """What is wrong with a file where that is one thing, at this location."""
    said = faults(content, **limits)
    assert list(said) == [location]
    return said[location]


def raw_safetensors(header: Any, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def bfloat16(given: Arrays) -> bytes:
    """A safetensors file of the upper halves of float32 numbers."""
    header, data = {}, b""
    for name, array in given.items():
        upper = (np.ascontiguousarray(array, "<f4").view("<u4") >> 16).astype("<u2").tobytes()
        offsets = [len(data), len(data) + len(upper)]
        header[name] = {"dtype": "BF16", "shape": list(array.shape), "data_offsets": offsets}
        data += upper
    return raw_safetensors(header, data)


def zipped(method: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header.encode() + data


# What is made of a file


@every_packer
@pytest.mark.parametrize("shapes", [PERSON, VIDEO], ids=["x-mdpt", "mdsgen"])
@pytest.mark.parametrize("count", [None, 1, 3])
def test_the_numbers_come_out_as_they_went_in(
    pack: Callable[[Arrays], bytes], shapes: dict[str, tuple[int, ...]], count: int | None
) -> None:
    given = arrays(shapes, count)
    made = parse(pack(given), LIMITS)
    read = load(made.content)
    assert read.keys() == given.keys()
    for name, array in given.items():
        assert read[name].dtype == np.float32
        np.testing.assert_array_equal(read[name], array.reshape(-1, *shapes[name]))
    assert made.count == (count or 1)
    assert made.family == ("x-mdpt" if shapes is PERSON else "mdsgen")
    assert made.id == hashlib.sha256(made.content).hexdigest()
    assert re.fullmatch(CONDITIONS_PATTERN, made.id)


def test_the_same_numbers_have_the_same_id_however_they_were_written() -> None:
    given = arrays(PERSON, 2)
    backwards = dict(reversed(given.items()))
    ways = {
        "npz": npz(given),
        "npz, packed": npz(given, compressed=True),
        "npz, other order": npz(backwards),
        "npz, float16": npz(arrays(PERSON, 2, "float16")),
        "npz, big-endian": npz(arrays(PERSON, 2, ">f8")),
        "npz, Fortran order": npz({name: np.asfortranarray(array) for name, array in given.items()}),
        "safetensors": safetensors(given),
        "safetensors, float16": safetensors(arrays(PERSON, 2, "float16")),
        "safetensors, bfloat16": bfloat16(given),
        "safetensors, float64": safetensors(arrays(PERSON, 2, "float64")),
        "safetensors, metadata": safetensors(given, {"made": "today"}),
    }
    made = {way: parse(content, LIMITS).content for way, content in ways.items()}
    assert {way for way, content in made.items() if content != made["npz"]} == set()


def test_one_condition_is_the_same_with_and_without_its_leading_dimension() -> None:
    assert parse(npz(arrays(VIDEO)), LIMITS).id == parse(npz(arrays(VIDEO, 1)), LIMITS).id


@every_packer
@pytest.mark.parametrize("count", [None, 1, 5])
@pytest.mark.parametrize("width", [1, 24, 2816])
def test_pooled_texts_may_have_any_width(pack: Callable[[Arrays], bytes], width: int, count: int | None) -> None:
    given = arrays({"pooled": (width,)}, count)
    made = parse(pack(given), LIMITS)
    assert (made.family, made.count) == ("transformer", count or 1)
    np.testing.assert_array_equal(load(made.content)["pooled"], given["pooled"].reshape(-1, width))
    info = described(made.id, made.content, len(made.content))
    assert info is not None
    assert (info.inputs, info.count, info.family) == ({"pooled": [width]}, count or 1, "transformer")
    assert parse(bfloat16(given), LIMITS).id == made.id


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 1, 24), "shape 2 x 1 x 24 is not W (one condition) or N x W (N conditions)"),
        ((3, 0), "shape 3 x 0 is not W (one condition)"),
        ((), "shape of a single number is not W (one condition)"),
    ],
)
def test_pooled_texts_of_another_shape_are_refused(shape: tuple[int, ...], message: str) -> None:
    assert message in fault(npz({"pooled": np.zeros(shape)}), "body.pooled")


def test_pooled_texts_by_another_name_and_beside_other_conditions_are_refused() -> None:
    assert "or pooled (W), for transformer" in fault(npz({"pooler_output": np.zeros((2, 24))}), "body.pooler_output")
    both = npz(arrays(VIDEO) | arrays(TEXT, 2))
    assert "this array is for transformer, and the others are for mdsgen" in fault(both, "body.pooled")
    assert "holds 5 conditions; at most 4" in fault(npz(arrays(TEXT, 5)), "body", max_conditions=4)
    assert "1 NaN; the first is in row 1" in fault(npz({"pooled": np.array([[0.0], [np.nan]])}), "body.pooled")


def test_other_numbers_have_another_id() -> None:
    given = arrays(VIDEO)
    before = parse(npz(given), LIMITS).id
    given["video"][31, 511] += 1
    assert parse(npz(given), LIMITS).id != before


def test_the_canonical_form_stays_what_it_is() -> None:
    """Ids are kept by clients."""
    made = parse(npz({name: np.zeros(shape) for name, shape in PERSON.items()}), LIMITS)
    assert made.id == "3d7d94b3dc3a421bb8b49e7ae7cf5cfd4310b3da6c9f7cf3551991334cb74c41"
    assert made.content == safetensors({name: np.zeros((1, *shape), np.float32) for name, shape in PERSON.items()})


# What is wrong with names, shapes, types and numbers


@every_packer
def test_a_missing_array_is_named_with_the_family_the_others_look_like(pack: Callable[[Arrays], bytes]) -> None:
    given = arrays(PERSON)
    del given["image"]
    message = fault(pack(given), "body.image")
    assert message == (
        "missing; the file holds pose and latents of x-mdpt, which takes "
        "pose (257 x 768), image (257 x 1536) and latents (4 x 32 x 32)"
    )


def test_an_array_that_no_family_takes_is_named() -> None:
    message = fault(npz(arrays(VIDEO | {"sound": (3,)})), "body.sound")
    assert message == "mdsgen is not conditioned on 'sound', but on video (32 x 512)"


def test_an_array_of_another_family_is_reported_with_its_family() -> None:
    assert "this array is for mdsgen, and the others are for x-mdpt" in fault(npz(arrays(PERSON | VIDEO)), "body.video")


@pytest.mark.parametrize("given", [{}, {"arr_0": np.zeros(3)}], ids=["none", "unnamed"])
def test_arrays_of_no_family_are_answered_with_what_each_takes(given: Arrays) -> None:
    message = fault(npz(given), "body.arr_0" if given else "body")
    assert "pose (257 x 768), image (257 x 1536) and latents (4 x 32 x 32), for x-mdpt" in message
    assert "video (32 x 512), for mdsgen" in message


@pytest.mark.parametrize("shape", [(), (512,), (32, 511), (512, 32), (1, 1, 32, 512), (3, 32, 511)])
def test_a_wrong_shape_is_answered_with_the_right_ones(shape: tuple[int, ...]) -> None:
    message = fault(npz({"video": np.zeros(shape, np.float32)}), "body.video")
    given = " x ".join(map(str, shape)) or "of a single number"
    assert message == f"shape {given} is not 32 x 512 (one condition) or N x 32 x 512 (N conditions)"


def test_arrays_of_different_counts_are_answered_with_all_counts() -> None:
    given = arrays(PERSON, 2) | {"image": arrays(PERSON, 3)["image"], "latents": arrays(PERSON)["latents"]}
    message = fault(safetensors(given), "body")
    assert "2 of pose, 3 of image, 1 of latents" in message


def test_no_conditions_are_too_few() -> None:
    assert "holds 0 conditions; send at least one" in fault(npz(arrays(VIDEO, 0)), "body")


@pytest.mark.parametrize(
    ("dtype", "called"),
    [("int64", "int64"), ("bool", "bool"), ("complex64", "complex64"), ("longdouble", "longdouble")],
)
def test_a_type_without_floating_point_is_answered_with_the_types_that_are_accepted(dtype: str, called: str) -> None:
    message = fault(npz(arrays(VIDEO, dtype=dtype)), "body.video")
    assert message.startswith(f"type {np.dtype(called).name} is not accepted")
    assert "send float16, bfloat16, float32 or float64" in message


def test_a_type_of_safetensors_that_numpy_does_not_know_is_refused_too() -> None:
    header = {"video": {"dtype": "F8_E4M3", "shape": [32, 512], "data_offsets": [0, 16384]}}
    assert "type f8_e4m3 is not accepted" in fault(raw_safetensors(header, bytes(16384)), "body.video")


def test_bfloat16_as_numpy_saves_it_is_told_where_it_is_accepted() -> None:
    message = fault(npz({"video": np.zeros((32, 512), "V2")}), "body.video")
    assert "as which numpy saves bfloat16" in message


@every_packer
def test_numbers_that_are_not_finite_are_counted_and_placed(pack: Callable[[Arrays], bytes]) -> None:
    given = arrays(PERSON, 4, "float64")
    given["pose"][2, 5, 5] = np.nan
    given["pose"][3, :2, 0] = -np.inf
    given["pose"][3, 2, 0] = 1e39
    given["latents"][1, 0, 0, 0] = np.inf
    said = faults(pack(given))
    assert list(said) == ["body.pose", "body.latents"]
    assert "1 NaN, 2 infinite, 1 too large for float32; the first is in row 2" in said["body.pose"]
    assert "1 infinite; the first is in row 1" in said["body.latents"]


def test_bfloat16_that_is_not_finite_is_found() -> None:
    given = arrays(VIDEO)
    given["video"][0, 0] = np.nan
    assert "1 NaN; the first is in row 0" in fault(bfloat16(given), "body.video")


def test_everything_that_is_wrong_is_reported_at_once() -> None:
    given = arrays(PERSON, 2)
    given["pose"][1, 0, 0] = np.nan
    wrong = {"pose": given["pose"], "image": np.zeros((3, 257, 1535), np.int8), "extra": np.zeros(1)}
    with pytest.raises(InvalidRequest) as caught:
        parse(npz(wrong), LIMITS)
    said = [(fault.location, fault.message) for fault in caught.value.faults]
    assert [location for location, _ in said] == [
        "body.extra", "body.latents", "body.image", "body.image", "body.pose",
    ]  # fmt: skip
    assert "type int8" in said[2][1]
    assert "shape 3 x 257 x 1535" in said[3][1]
    assert "NaN" in said[4][1]


# What is wrong with the file


@pytest.mark.parametrize("content", [b"{}", b"\x93NUMPY\x01\x00", b"\x80\x04pickle", b"x" * 100, bytes(100)])
def test_a_file_that_is_neither_is_answered_with_what_is_accepted(content: bytes) -> None:
    message = fault(content, "body")
    assert "neither a safetensors nor an npz file" in message
    assert "numpy.savez" in message


def test_an_empty_body_is_answered_with_what_is_accepted() -> None:
    assert "the body is empty; send a safetensors file" in fault(b"", "body")


def test_a_form_is_told_to_send_the_file_itself() -> None:
    assert "curl --data-binary @FILE" in fault(b'--x\r\nContent-Disposition: form-data; name="file"\r\n', "body")


@pytest.mark.parametrize("count", [1, 48, 100])
def test_a_torch_checkpoint_is_answered_with_what_to_save_it_with_in_one_fault(count: int) -> None:
    torch = pytest.importorskip("torch")
    file = io.BytesIO()
    torch.save({f"blocks.{n}": torch.zeros(2) for n in range(count)}, file)
    message = fault(file.getvalue(), "body")
    assert message.startswith("the file is a torch checkpoint (torch.save)")
    assert "safetensors.torch.save_file or numpy.savez" in message
    assert "\\x" not in message


def test_a_single_array_is_told_to_be_saved_by_its_name() -> None:
    file = io.BytesIO()
    np.save(file, np.zeros((32, 512), np.float32))
    assert "this is one array without a name (.npy): save it by its name" in fault(file.getvalue(), "body")


@every_packer
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.999])
def test_a_file_cut_short_is_reported_as_cut_short(pack: Callable[[Arrays], bytes], kept: float) -> None:
    content = pack(arrays(VIDEO, 2))
    assert "incomplete or damaged" in fault(content[: int(kept * len(content))], "body")


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**40) + b"{}",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 1) + b"{}",
        raw_safetensors({"video": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}}, bytes(8)),
        raw_safetensors({"video": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 8]}}, bytes(8)),
        raw_safetensors(
            {
                "pose": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                "image": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
            },
            bytes(12),
        ),
        raw_safetensors({"video": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(8)),
        raw_safetensors({"video": 1}),
    ],
    ids=["header length", "huge header length", "small header length", "size", "overflow", "overlap", "rest", "entry"],
)
def test_a_safetensors_header_that_lies_is_refused(content: bytes) -> None:
    assert "begins like a safetensors file, but is incomplete or damaged" in fault(content, "body")


def test_a_long_safetensors_header_is_refused_before_it_is_read() -> None:
    text = b"{" + b" " * 2**20 + b"}"
    assert "header is 1048578 bytes" in fault(struct.pack("<Q", len(text)) + text, "body")


@pytest.mark.parametrize("pack", [npz, safetensors])
def test_many_arrays_are_refused_as_one_fault(pack: Callable[[Arrays], bytes]) -> None:
    content = pack({f"a{n}": np.zeros(1, np.float32) for n in range(65)})
    assert "holds 65 arrays; at most 64" in fault(content, "body")


def test_a_pickle_is_refused_unread(tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (trace,)

    content = npz({"video": np.full((32, 512), Trap(), dtype=object)})
    with np.load(io.BytesIO(content), allow_pickle=True) as archive:
        archive["video"]
    assert trace.exists()  # the trap works
    trace.unlink()
    assert "type object, which is a pickle, is not accepted" in fault(content, "body.video")
    assert not trace.exists()


def test_a_zip_bomb_is_refused_by_the_sizes_it_declares() -> None:
    content = npz({"video": np.zeros((1000, 32, 512))}, compressed=True)
    assert len(content) < 2**20
    message = fault(content, "body", max_conditions_bytes=2**20)
    assert re.fullmatch(r"the file is 131\d+ bytes unpacked; at most 1048576 are accepted", message)


def test_a_zip_bomb_that_declares_small_sizes_is_read_no_further_than_those() -> None:
    content = bytearray(npz({"video": np.zeros((1000, 32, 512))}, compressed=True))
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 1000)  # the unpacked size
    assert "is incomplete, damaged" in fault(bytes(content), "body.video")


def test_an_npz_member_that_is_no_array_is_named() -> None:
    said = faults(zipped(video=b"text", pose=npy("{'descr': '<f4'}"), image=npy("(" * 900), latents=b""))
    assert list(said) == ["body.video", "body.pose", "body.image", "body.latents"]
    assert all("not an array of numpy" in message for message in said.values())


def test_an_npz_member_with_a_header_for_tables_is_refused() -> None:
    message = fault(zipped(video=npy("", version=b"\x02\x00")), "body.video")
    assert message == "it has npy format 2.0, for structured arrays; send a plain array"


@pytest.mark.parametrize(("size", "said"), [(65535, "has 65535"), (65537, "has more")])
def test_an_npz_member_of_another_size_than_its_header_says_is_refused(size: int, said: str) -> None:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (32, 512)}"
    assert said in fault(zipped(video=npy(header, bytes(size))), "body.video")


def test_a_header_that_promises_more_than_is_there_takes_no_memory() -> None:
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (10**12, 32, 512)}".replace("10**12", "1" + "0" * 12)
    assert "holds 1000000000000 conditions; at most 1024" in fault(zipped(video=npy(header)), "body")


@pytest.mark.parametrize(
    ("shape", "said"),
    [("(-1, 32, 512)", "holds -1 conditions"), ("[32, 512]", "shape is not valid"), ("(32.0, 512)", "not valid")],
)
def test_an_npz_member_of_an_impossible_shape_is_refused(shape: str, said: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"
    assert said in "".join(faults(zipped(video=npy(header, bytes(65536)))).values())


def test_an_npz_member_whose_shape_says_true_is_read_as_one() -> None:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 32, 512)}"
    assert parse(zipped(video=npy(header, bytes(65536))), LIMITS).count == 1


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_npz_member_packed_as_numpy_does_not_is_refused(method: int) -> None:
    content = zipped(method, video=npz(arrays(VIDEO)))
    assert "write the file with numpy.savez" in fault(content, "body.video")


def test_an_npz_member_with_a_wrong_checksum_is_refused() -> None:
    content = bytearray(npz(arrays(VIDEO)))
    content[5000] ^= 1
    assert "Bad CRC-32" in fault(bytes(content), "body.video")


def test_an_encrypted_npz_member_is_refused() -> None:
    content = bytearray(npz(arrays(VIDEO)))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    assert "encrypted" in fault(bytes(content), "body.video")


def test_two_npz_members_of_one_name_are_refused() -> None:
    content = npz(arrays(VIDEO | {"vide_": (1,)}))
    assert "two arrays of this name" in fault(content.replace(b"vide_.npy", b"video.npy"), "body.video")


def test_too_many_conditions_are_refused() -> None:
    content = npz(arrays(VIDEO, 3))
    assert parse(content, LIMITS.model_copy(update={"max_conditions": 3})).count == 3
    assert "holds 3 conditions; at most 2 are accepted" in fault(content, "body", max_conditions=2)


def test_a_file_too_large_is_refused() -> None:
    content = safetensors(arrays(VIDEO))
    assert f"the file is {len(content)} bytes; at most 1000" in fault(content, "body", max_conditions_bytes=1000)


def test_conditions_too_large_as_float32_are_refused() -> None:
    content = safetensors(arrays(VIDEO, dtype="float16"))
    message = fault(content, "body", max_conditions_bytes=len(content))
    assert "the conditions are 65536 bytes as float32" in message


def test_what_a_client_sent_is_repeated_short_and_plain() -> None:
    (said,) = faults(safetensors({"\u2603" * 1000: np.zeros(1, np.float32)})).items()
    assert all(text.isascii() for text in said)
    assert len(said[0]) < 500


@drawn(data=strategies.data())
@hypothesis_settings(max_examples=300, deadline=None)
def test_a_damaged_file_is_refused_or_read_and_raises_nothing_else(data: strategies.DataObject) -> None:
    pack = data.draw(strategies.sampled_from(list(PACKERS.values())))
    content = bytearray(pack({"video": np.ones((2, 32, 512), np.float32), "extra": np.ones(3)}))
    ends = strategies.integers(0, 300) | strategies.integers(-400, -1)
    for at in data.draw(strategies.lists(ends, min_size=1, max_size=6)):
        content[at] = data.draw(strategies.integers(0, 255))
    with contextlib.suppress(InvalidRequest):
        assert parse(bytes(content), LIMITS).family == "mdsgen"


# Stored


@pytest.fixture
def conditions(settings: Settings, redis_client: redis.Redis) -> ConditionStore:
    return ConditionStore(ArtifactStore(settings, redis_client), redis_client)


@pytest.fixture
def made() -> Conditions:
    return parse(npz(arrays(PERSON, 2)), LIMITS)


def test_what_was_put_is_described_and_read(conditions: ConditionStore, made: Conditions) -> None:
    info = conditions.put(made)
    assert info.model_dump() == {
        "id": made.id,
        "count": 2,
        "inputs": {"pose": [257, 768], "image": [257, 1536], "latents": [4, 32, 32]},
        "family": "x-mdpt",
        "bytes": len(made.content),
    }
    assert conditions.get(made.id) == info
    assert conditions.read(made.id) == made.content


def test_putting_again_changes_nothing(conditions: ConditionStore, made: Conditions, settings: Settings) -> None:
    assert conditions.put(made) == conditions.put(made)
    assert [path.name for path in Path(settings.artifacts).rglob("*") if path.is_file()] == [made.id]


def test_conditions_outlive_redis(
    conditions: ConditionStore, made: Conditions, redis_client: redis.Redis, settings: Settings
) -> None:
    small = parse(npz(arrays(VIDEO)), LIMITS)
    for each in (made, small):
        info = conditions.put(each)
        redis_client.flushall()
        assert conditions.get(each.id) == info
        assert conditions.read(each.id) == each.content


def test_conditions_are_put_and_read_without_redis(made: Conditions, settings: Settings) -> None:
    with connect(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})) as nowhere:
        conditions = ConditionStore(ArtifactStore(settings, nowhere), nowhere)
        conditions.put(made)
        assert conditions.read(made.id) == made.content


def test_another_process_finds_them(conditions: ConditionStore, made: Conditions, settings: Settings) -> None:
    conditions.put(made)
    code = (
        "import sys, hashlib; from jobs.settings import Settings; from jobs.store.connection import connect; "
        "from jobs.storage.artifacts import ArtifactStore; from jobs.storage.uploads import ConditionStore; "
        "settings = Settings(); client = connect(settings); "
        "store = ConditionStore(ArtifactStore(settings, client), client); "
        "print(store.get(sys.argv[1]).count, hashlib.sha256(store.read(sys.argv[1])).hexdigest())"
    )
    environment = {"REDIS_URL": settings.redis_url, "TAILPRUNE_DATA_DIR": str(settings.data_dir)}
    done = subprocess.run(
        [sys.executable, "-c", code, made.id], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["2", made.id]


def test_conditions_may_lie_in_a_store_of_objects(made: Conditions, settings: Settings) -> None:
    remote = settings.model_copy(update={"artifacts_url": "memory://bucket/artifacts"})
    with connect(remote) as client:
        ConditionStore(ArtifactStore(remote, client), client).put(made)
        assert ConditionStore(ArtifactStore(remote, client), client).get(made.id).count == 2
        assert ConditionStore(ArtifactStore(remote, client), client).read(made.id) == made.content


@pytest.mark.parametrize("unknown", ["0" * 64, "x", "", "../../" + "0" * 58, "A" * 64, "0" * 64 + "\n"])
def test_unknown_conditions_are_told_to_be_uploaded(conditions: ConditionStore, unknown: str) -> None:
    assert not conditions.has(unknown)
    for look in (conditions.get, conditions.read):
        with pytest.raises(UnknownConditions, match="POST /conditions"):
            look(unknown)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG",
        safetensors({"latents": np.zeros((2, 4, 32, 32), np.float32)}),
        safetensors({"video": np.zeros((32, 512), np.float32)}),
        safetensors({"video": np.zeros((0, 32, 512), np.float32)}),
        safetensors({"video": np.zeros((1, 32, 512), np.float16)}),
        safetensors({"video": np.zeros((1, 32, 512), np.float32)}) + b"more",
        safetensors({"video": np.zeros((1, 32, 512), np.float32)}, {"made": "today"}),
    ],
    ids=["empty", "picture", "latents", "no count", "none", "float16", "more", "metadata"],
)
def test_other_artifacts_are_no_conditions(
    conditions: ConditionStore, content: bytes, settings: Settings, redis_client: redis.Redis
) -> None:
    artifact = ArtifactStore(settings, redis_client).put(content, "application/octet-stream")
    with pytest.raises(UnknownConditions):
        conditions.get(artifact.digest)


def test_conditions_whose_file_was_deleted_are_unknown(
    conditions: ConditionStore, made: Conditions, settings: Settings
) -> None:
    conditions.put(made)
    next(Path(settings.artifacts).rglob(made.id)).unlink()
    with pytest.raises(UnknownConditions):
        conditions.read(made.id)


def test_damaged_conditions_are_unknown_until_they_are_uploaded_again(
    conditions: ConditionStore, made: Conditions, settings: Settings
) -> None:
    for place in (-1, 200):  # among the numbers, and in the header
        conditions.put(made)
        assert conditions.read(made.id) == made.content
        path = next(Path(settings.artifacts, "uploads").rglob(made.id))
        damaged = bytearray(made.content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        assert not conditions.has(made.id)
        for look in (conditions.get, conditions.read):
            with pytest.raises(UnknownConditions, match="POST /conditions"):
                look(made.id)
        path.write_bytes(damaged)
        conditions.put(made)
        assert conditions.read(made.id) == made.content


def test_conditions_of_an_earlier_version_are_found(
    conditions: ConditionStore, made: Conditions, settings: Settings
) -> None:
    path = Path(settings.artifacts, made.id[:2], made.id)
    path.parent.mkdir(parents=True)
    path.write_bytes(made.content)
    assert conditions.get(made.id).count == 2
    assert conditions.read(made.id) == made.content
