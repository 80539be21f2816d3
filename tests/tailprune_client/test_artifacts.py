"""The files of a job: whole, checked, resumed, and as what they hold."""

from __future__ import annotations

import builtins
import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

from tailprune_client import Artifact, ArtifactGone, Damaged, ServiceAway
from tests.tailprune_client.stand_in import JOB, client_of, refused, sent

NAME = "vectors.safetensors"
CONTENT = bytes(range(256)) * 10


def artifact(answer: Callable[[httpx.Request], httpx.Response], **options: Any) -> Artifact:
    """An artifact of a job of the service that answers so."""

    def answers(request: httpx.Request) -> httpx.Response:
        return answer(request) if "artifacts" in request.url.path else httpx.Response(200, json=JOB)

    return client_of(answers, **options).job("0" * 26).artifacts[NAME]


def tagged(content: bytes, digest: str = "") -> dict[str, str]:
    return {"ETag": f'"{digest or hashlib.sha256(content).hexdigest()}"'}


def test_a_file_is_written_under_its_own_name_or_another(tmp_path: Path) -> None:
    found = artifact(lambda _: httpx.Response(200, headers=tagged(CONTENT), content=sent(CONTENT[:9], CONTENT[9:])))
    assert found.save(tmp_path) == tmp_path / NAME
    assert found.save(tmp_path / "new" / "folder" / "c.safetensors").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["c.safetensors"]


def test_a_file_that_breaks_is_resumed_where_it_was(pauses: list[float]) -> None:
    ranges: list[tuple[str | None, str | None]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        ranges.append((request.headers.get("Range"), request.headers.get("If-Range")))
        if len(ranges) == 1:
            return httpx.Response(200, headers=tagged(CONTENT), content=sent(CONTENT[:100], httpx.ReadError("cut")))
        if len(ranges) == 2:
            return refused("unavailable", Retry_After="5")
        return httpx.Response(206, headers=tagged(CONTENT), content=CONTENT[100:])

    assert artifact(answer).bytes() == CONTENT
    assert ranges == [(None, None), *[("bytes=100-", tagged(CONTENT)["ETag"])] * 2]
    assert pauses == [5]


def test_a_file_begins_again_where_no_part_of_it_is_sent(pauses: list[float]) -> None:
    pieces = [sent(b"of another", httpx.ReadError("cut")), sent(CONTENT)]
    assert artifact(lambda _: httpx.Response(200, headers=tagged(CONTENT), content=pieces.pop(0))).bytes() == CONTENT


def test_a_file_that_does_not_arrive_leaves_what_was_there(tmp_path: Path, pauses: list[float]) -> None:
    path = tmp_path / NAME
    path.write_bytes(b"as it was")
    broken = artifact(lambda _: httpx.Response(200, content=sent(b"half", httpx.ReadError("the connection broke"))))
    with pytest.raises(ServiceAway, match="the connection broke"):
        broken.save(path)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(NAME, b"as it was")]


def test_a_file_with_another_digest_than_the_service_names_is_not_kept(tmp_path: Path) -> None:
    damaged = artifact(lambda _: httpx.Response(200, headers=tagged(b"", "0" * 64), content=b"as received"))
    with pytest.raises(Damaged, match="arrived damaged"):
        damaged.save(tmp_path)
    with pytest.raises(Damaged):
        damaged.bytes()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_gone_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(ArtifactGone, match="no longer stored"):
        artifact(lambda _: refused("artifact-gone", "it is no longer stored")).save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_are_read_as_pictures_tensors_and_text() -> None:
    picture = io.BytesIO()
    Image.new("RGB", (4, 3)).save(picture, "PNG")
    assert artifact(lambda _: httpx.Response(200, content=picture.getvalue())).image().size == (4, 3)
    tensors = artifact(lambda _: httpx.Response(200, content=save({"c": np.ones((2, 3), np.float32)}))).tensors()
    assert tensors["c"].shape == (2, 3)
    assert artifact(lambda _: httpx.Response(200, content="Fréchet".encode())).text() == "Fréchet"


@pytest.mark.parametrize(("method", "lacks"), [("image", "pillow"), ("tensors", "safetensors numpy")])
def test_what_has_to_be_installed_for_a_file_is_named(monkeypatch: pytest.MonkeyPatch, method: str, lacks: str) -> None:
    found = artifact(lambda _: httpx.Response(200, content=b""))
    real = builtins.__import__

    def importing(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] in ("PIL", "safetensors"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(ImportError, match=f"pip install {lacks}"):
        getattr(found, method)()
