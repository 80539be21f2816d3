"""References from folders, from npz files of the evaluator of ADM, and from the data set shapes."""

from __future__ import annotations

import io
import os
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tailprune.quality import (
    Extracted,
    FeatureMoments,
    ImageFolder,
    NpzImages,
    Reference,
    ShapesImages,
    SourceError,
    bootstrap,
    class_matches,
    frechet_distance,
    inception_score,
    load_extractor,
    load_reference,
    make_reference,
    precision_recall,
)
from tailprune.quality.extractors import ShapesFeatures

CLASSIFIER = Path(__file__).parents[3] / "models" / "shapes-classifier"


class Corner:
    """An extractor whose features are the first two pixels, in bytes."""

    name, digest, dim = "corner", "d" * 64, 6

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, images: Tensor) -> Extracted:
        self.batches.append(len(images))
        return Extracted(images[:, :, 0, :2].flatten(1).float())


def pictures(count: int, side: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def corners(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)[:, :, 0, :2].flatten(1).double()


def write(folder: Path, images: np.ndarray, suffix: str = ".png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:03}{suffix}", lossless=True)
    return folder


def png_bytes(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def broken_chunk() -> bytes:
    """A PNG whose data are in two chunks, of which the second has no name."""
    content = png_bytes(pictures(1, 16)[0])
    start = content.index(b"IDAT") + 4
    (length,) = struct.unpack(">I", content[start - 8 : start - 4])
    data = content[start : start + length // 2]
    checksum = struct.pack(">I", zlib.crc32(b"IDAT" + data))
    return content[: start - 8] + struct.pack(">I", len(data)) + b"IDAT" + data + checksum + b"\0" * 500


def enormous() -> bytes:
    """A PNG whose header says that it has 400 million pixels."""
    content = png_bytes(pictures(1)[0])
    header = b"IHDR" + struct.pack(">II", 20_000, 20_000) + content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


def zipped(path: Path, member: bytes, compression: int = zipfile.ZIP_STORED, name: str = "arr_0.npy") -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(name, member)
    return path


def overwritten(path: Path, start: int, content: bytes) -> Path:
    held = bytearray(path.read_bytes())
    held[start : start + len(content)] = content
    path.write_bytes(held)
    return path


# Folders


def test_a_folder_gives_all_its_images_sorted_by_path_in_batches(tmp_path: Path) -> None:
    images = pictures(7)
    write(tmp_path / "b", images[4:])
    write(tmp_path / "a", images[:4], ".webp")
    (tmp_path / "b" / "notes.txt").write_text("no image")
    source = ImageFolder(tmp_path)
    batches = list(source.batches(3))
    assert (source.count, [len(batch) for batch in batches]) == (7, [3, 3, 1])
    assert torch.equal(torch.cat(batches), torch.from_numpy(images).permute(0, 3, 1, 2))


def test_images_of_all_modes_become_rgb(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 200).save(tmp_path / "grey.png")
    Image.new("RGBA", (4, 4), (10, 20, 30, 255)).save(tmp_path / "with alpha.png")
    Image.new("P", (4, 4)).save(tmp_path / "z palette.png")
    (batch,) = ImageFolder(tmp_path).batches()
    assert batch[:, :, 0, 0].tolist() == [[200] * 3, [10, 20, 30], [0, 0, 0]]


def test_a_folder_of_two_sizes_is_refused_with_the_file_and_both(tmp_path: Path) -> None:
    write(tmp_path, pictures(2))
    Image.new("RGB", (9, 8)).save(tmp_path / "other.png")
    with pytest.raises(SourceError, match=r"other.png: is 9 x 8 pixels, but 000.png is 8 x 8; scale or crop"):
        list(ImageFolder(tmp_path).batches(1))


def test_a_folder_without_images_or_with_a_broken_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"{tmp_path}: has no images; give a folder of .png"):
        ImageFolder(tmp_path)
    with pytest.raises(SourceError, match="is not a folder"):
        ImageFolder(tmp_path / "nowhere")
    no_header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 0) + b"IHDR" + struct.pack(">I", zlib.crc32(b"IHDR"))
    for content, why in (
        (b"no image", "Pillow reads no such format"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        (b"", "it is empty"),
        (no_header, ""),
        (png_bytes(pictures(1)[0])[:-40], "truncated"),
        (broken_chunk(), "broken PNG file"),
        (enormous(), "exceeds limit"),
    ):
        (tmp_path / "broken.png").write_bytes(content)
        with pytest.raises(
            SourceError, match=rf"broken.png: cannot be read as an image \(.*{why}.*; replace or remove"
        ):
            list(ImageFolder(tmp_path).batches())


def test_files_of_other_kinds_are_passed_over_with_their_number_and_kinds(tmp_path: Path) -> None:
    write(tmp_path, pictures(2))
    for suffix in (".bmp", ".tiff", ".gif", ".ppm"):
        write(tmp_path / suffix[1:], pictures(2), suffix)
    for name in ("a.JP2", "b.jp2", "c.avif", "d.0001", "e.0002", "LICENSE", "labels.csv", "labels.json", ".DS_Store"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    said = f"{tmp_path}: 10 images are read; passed over: 3 of other kinds, 2 .jp2, 1 .avif (read are .png, "
    with pytest.warns(UserWarning, match=re.escape(said)):
        source = ImageFolder(tmp_path)
    assert (source.count, source.passed_over) == (10, {".jp2": 2, ".avif": 1, "": 3})
    assert len(torch.cat(list(source.batches()))) == 10


def test_an_image_that_is_a_link_to_nowhere_is_refused_and_not_overlooked(tmp_path: Path) -> None:
    (write(tmp_path, pictures(2)) / "linked.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(SourceError, match=r"linked.png: cannot be read as an image \(.*No such file"):
        list(ImageFolder(tmp_path).batches())


def test_hidden_files_and_those_in_hidden_folders_are_neither_read_nor_counted(tmp_path: Path) -> None:
    write(tmp_path, pictures(2))
    write(tmp_path / ".ipynb_checkpoints", pictures(1))
    (tmp_path / "._000.png").write_bytes(b"of macOS")
    source = ImageFolder(tmp_path)
    assert (source.count, source.passed_over) == (2, {})


def test_links_to_folders_are_followed_and_each_folder_is_read_once(tmp_path: Path) -> None:
    folder, elsewhere = write(tmp_path / "folder", pictures(2)), write(tmp_path / "elsewhere", pictures(3))
    (folder / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)
    assert [str(path.relative_to(folder)) for path in ImageFolder(folder).paths] == [
        "000.png", "001.png", "linked/000.png", "linked/001.png", "linked/002.png",
    ]  # fmt: skip


def test_a_pipe_is_passed_over_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(write(tmp_path, pictures(2)) / "pipe.png")
    with pytest.warns(UserWarning, match="2 images are read; passed over: 1 of other kinds"):
        assert len(torch.cat(list(ImageFolder(tmp_path).batches()))) == 2


def test_a_folder_that_cannot_be_read_is_refused_and_not_overlooked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scandir(path: str) -> Any:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(SourceError, match=rf"{tmp_path}: cannot be read \(Permission denied\)"):
        ImageFolder(tmp_path)


def test_no_file_is_given_to_a_program(tmp_path: Path) -> None:
    Image.fromarray(pictures(1)[0]).save(tmp_path / "postscript.png", "EPS")
    with pytest.raises(SourceError, match="Pillow reads no such format"):
        list(ImageFolder(tmp_path).batches())


def test_a_folder_of_other_kinds_alone_is_refused_with_their_number_and_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.jp2").write_bytes(b"")
    with pytest.raises(SourceError, match=r"has no images among its files \(1 .jp2\); give a folder of .png"):
        ImageFolder(tmp_path)


def test_images_between_the_two_limits_of_pillow_are_read_without_its_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 63)  # it warns above, and refuses above twice as many
    assert sum(len(batch) for batch in ImageFolder(write(tmp_path, pictures(3, 8))).batches(2)) == 3
    assert not recwarn.list


def test_the_digest_of_a_folder_is_of_its_content(tmp_path: Path) -> None:
    images = pictures(3)
    here, there = write(tmp_path / "here", images), write(tmp_path / "there", images)
    assert ImageFolder(here).digest == ImageFolder(there).digest
    images[1, 0, 0, 0] ^= 1
    assert ImageFolder(write(there, images)).digest != ImageFolder(here).digest


def test_a_reference_of_a_folder_has_the_moments_of_all_and_the_features_of_some(tmp_path: Path) -> None:
    images = pictures(11)
    folder, extract = write(tmp_path / "images", images), Corner()
    found = load_reference(folder, extract, batch_size=4, most_features=3)
    assert extract.batches == [4, 4, 3]
    assert found.extractor == "corner"
    features = corners(images)
    torch.testing.assert_close(found.gaussian.mean, features.mean(0))
    torch.testing.assert_close(found.gaussian.covariance, features.T.cov())
    assert found.features is not None
    assert torch.equal(found.features.double(), features[[0, 3, 7]])  # evenly spaced


@pytest.mark.parametrize(("batch_size", "most_features"), [(1, 11), (5, 10), (64, 10_000), (3, 0)])
def test_features_kept_do_not_depend_on_the_batches(tmp_path: Path, batch_size: int, most_features: int) -> None:
    images = pictures(11)
    path = tmp_path / "images.npz"
    np.savez(path, images)
    found = load_reference(path, Corner(), batch_size, most_features)
    kept = min(11, most_features)
    assert found.features is not None
    assert torch.equal(found.features.double(), corners(images)[[index * 11 // kept for index in range(kept)]])


# npz


@pytest.mark.parametrize("compressed", [True, False])
def test_the_images_of_an_npz_are_those_of_the_folder(tmp_path: Path, compressed: bool) -> None:
    images = pictures(9)
    (np.savez_compressed if compressed else np.savez)(tmp_path / "images.npz", images)
    found, extract = NpzImages(tmp_path / "images.npz"), Corner()
    assert [tuple(batch.shape) for batch in found.batches(4)] == [(4, 3, 8, 8), (4, 3, 8, 8), (1, 3, 8, 8)]
    of_npz = load_reference(tmp_path / "images.npz", extract)
    of_folder = load_reference(write(tmp_path / "folder", images), extract)
    assert torch.equal(of_npz.gaussian.mean, of_folder.gaussian.mean)
    assert of_npz.features is not None
    assert of_folder.features is not None
    assert torch.equal(of_npz.features, of_folder.features)


def test_published_moments_are_taken_as_they_are_and_no_image_is_needed(tmp_path: Path) -> None:
    mean, covariance = np.arange(6.0), np.diag(np.arange(1.0, 7.0))
    extract = Corner()
    np.savez(tmp_path / "moments.npz", mu=mean, sigma=covariance)
    found = load_reference(tmp_path / "moments.npz", extract)
    assert found.gaussian.mean.tolist() == mean.tolist()
    assert found.gaussian.covariance.tolist() == covariance.tolist()
    assert (found.features, found.spatial, extract.batches) == (None, None, [])


def test_a_file_with_both_gives_published_moments_and_the_features_of_its_images(tmp_path: Path) -> None:
    images = pictures(5)
    published = {"mu": np.full(6, 7.0, np.float32), "sigma": np.eye(6), "mu_s": np.zeros(4), "sigma_s": 2 * np.eye(4)}
    np.savez(tmp_path / "both.npz", images, **published)
    found = load_reference(tmp_path / "both.npz", Corner())
    assert found.gaussian.mean.tolist() == [7.0] * 6
    assert found.features is not None
    assert torch.equal(found.features.double(), corners(images))
    assert found.spatial is not None
    assert found.spatial.covariance.tolist() == (2 * np.eye(4)).tolist()


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"mu": np.zeros(5), "sigma": np.eye(5)}, "mu has 5 features, and corner has 6"),
        ({"mu": np.zeros(6), "sigma": np.eye(5)}, r"mu has shape \(6,\) and sigma \(5, 5\)"),
        ({"mu": np.full(6, np.nan), "sigma": np.eye(6)}, "mu has NaN or infinity"),
        ({"mu": np.zeros(6), "sigma": np.full((6, 6), np.inf)}, "sigma has NaN or infinity"),
        ({"mu": np.zeros(6), "sigma": np.triu(np.ones((6, 6)))}, "sigma is no covariance, which is symmetric"),
        ({"mu": np.zeros(6), "sigma": -np.eye(6)}, "sigma is no covariance, .* variances of 0 or more"),
        ({"mu": np.zeros((1, 6)), "sigma": np.eye(6)}, r"mu has shape \(1, 6\)"),
        (
            {"mu": np.zeros(6), "sigma": np.eye(6), "mu_s": np.zeros(0), "sigma_s": np.zeros((0, 0))},
            r"mu_s has shape \(0,\)",
        ),
        ({"mu": np.zeros(6), "other": np.zeros(6)}, "has neither mu and sigma nor arr_0; its arrays are mu, other"),
        ({"arr_0": np.zeros((2, 8, 8, 3), np.float32)}, r"arr_0 is float32 with shape \(2, 8, 8, 3\); give"),
        ({"arr_0": np.zeros((2, 8, 8, 3), np.uint16)}, r"arr_0 is uint16 with shape"),
        ({"arr_0": np.zeros((2, 8, 0, 3), np.uint8)}, r"arr_0 is uint8 with shape \(2, 8, 0, 3\)"),
        ({"arr_0": np.array([None, "pickled"])}, r"arr_0 is object with shape \(2,\)"),
        ({"arr_0": np.zeros((2, 3, 8, 8), np.uint8)}, r"arr_0 is uint8 with shape \(2, 3, 8, 8\)"),
        ({"arr_0": np.asfortranarray(pictures(4))}, "Fortran"),
        ({"arr_0": pictures(1)}, "unfit.npz: has 1 image, and a reference needs at least two"),
        ({"mu": np.array(["pickled", None]), "sigma": np.eye(6)}, "mu is object; mu and sigma must be real numbers"),
    ],
)
def test_an_npz_that_does_not_fit_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    np.savez(tmp_path / "unfit.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(SourceError, match=said):
        load_reference(tmp_path / "unfit.npz", Corner())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no array at all",
        npy(pictures(4))[:40],
        npy(pictures(4)).replace(b")", b" ", 1),
        npy(pictures(4)).replace(b"(4, 8", b"(4;8;", 1),
    ],
)
def test_an_npz_with_a_member_that_is_no_array_is_refused(tmp_path: Path, content: bytes) -> None:
    path = zipped(tmp_path / "damaged.npz", content)
    with pytest.raises(SourceError, match=f"{path}: arr_0 is not an array that can be read .*; download it again"):
        load_reference(path, Corner())


@pytest.mark.parametrize("shape", ["(9999, 8, 8, 3)", "(2, 99999999, 99999999, 3)", "(5, 8, 8, 3)"])
def test_an_npz_with_fewer_values_than_its_header_says_is_refused_before_any_is_read(
    tmp_path: Path, shape: str
) -> None:
    header = npy(pictures(4)).replace(b"(4, 8, 8, 3), }" + b" " * (len(shape) - 12), f"{shape}, }}".encode(), 1)
    path = zipped(tmp_path / "short.npz", header)
    with pytest.raises(SourceError, match=f"{path}: arr_0 is incomplete"):
        NpzImages(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_npz_with_a_broken_stream_is_refused(tmp_path: Path, compression: int) -> None:
    path = zipped(tmp_path / "damaged.npz", npy(pictures(40)), compression)
    overwritten(path, 2000, b"\xff" * 100)
    with pytest.raises(SourceError, match=f"{path}: arr_0 is not an array that can be read"):
        load_reference(path, Corner())


@pytest.mark.parametrize(("offset", "value", "why"), [(8, b"\1\0", "password"), (10, b"\x63\0", "compression method")])
def test_an_npz_that_zipfile_does_not_unpack_is_refused(tmp_path: Path, offset: int, value: bytes, why: str) -> None:
    path = zipped(tmp_path / "unusual.npz", npy(pictures(4)))
    directory = path.read_bytes().index(b"PK\1\2")
    overwritten(path, directory + offset, value)  # flags or compression, in the table of contents
    overwritten(path, offset - 2, value)  # and before the member
    with pytest.raises(SourceError, match=f"{path}: arr_0 is not an array that can be read .*{why}"):
        load_reference(path, Corner())


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is not an array that can be read .*; download it again"),
        (b"no array at all", "is not an array that can be read .*; download it again"),
        (npy(np.zeros(6))[:-8], "is incomplete; download it again"),
        (npy(np.zeros(6)).replace(b"(6,), } ", b"(6, 9999999999999), } ", 1), "is incomplete; download it again"),
        (npy(np.zeros(6, complex)), "is complex128; mu and sigma must be real numbers"),
        (npy(np.array(["a"] * 6)), "is <U1; mu and sigma must be real numbers"),
    ],
)
def test_published_moments_that_are_no_arrays_of_numbers_are_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = zipped(tmp_path / "damaged.npz", content, name="mu.npy")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("sigma.npy", npy(np.eye(6)))
    with pytest.raises(SourceError, match=f"{path}: mu {why}"):
        load_reference(path, Corner())


@pytest.mark.parametrize("name", ["mu.npy", "sigma.npy"])
def test_published_moments_with_a_broken_stream_are_refused(tmp_path: Path, name: str) -> None:
    path, extract = tmp_path / "damaged.npz", Corner()
    extract.dim = 64
    np.savez(path, mu=np.arange(64.0), sigma=np.eye(64))
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
    overwritten(path, info.header_offset + info.file_size, b"\1")
    with pytest.raises(SourceError, match=f"{path}: .* read .Bad CRC-32 for file '{name}'.; download it again"):
        load_reference(path, extract)


def test_published_moments_are_not_read_where_their_headers_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("they are read"))
    path = tmp_path / "large.npz"
    for shape in ((4, 4), (6, 7)):
        np.savez_compressed(path, mu=np.zeros(shape[0]), sigma=np.zeros(shape))
        with pytest.raises(SourceError, match=f"{path}: mu has"):
            load_reference(path, Corner())


def test_a_header_that_says_it_is_long_is_not_read(tmp_path: Path) -> None:
    path = zipped(tmp_path / "long.npz", b"\x93NUMPY\2\0\0\0\0\4" + bytes(2**26), zipfile.ZIP_DEFLATED)
    with pytest.raises(SourceError, match=f"{path}: arr_0 is not an array that can be read .*got 16372"):
        load_reference(path, Corner())


def test_too_little_memory_is_not_told_as_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("tailprune.quality.sources.rgb_pixels", out_of_memory)
    with pytest.raises(MemoryError):
        list(ImageFolder(write(tmp_path, pictures(2))).batches())


def test_a_zip_of_many_other_files_is_refused_with_the_first_of_them(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.npz", "w") as archive:
        for index in range(50):
            archive.writestr(f"{index:02}.png", b"")
    with pytest.raises(
        SourceError, match=r"its arrays are 00.png, .*, 09.png, \.\.\.; give a folder of images, or an npz file"
    ):
        load_reference(tmp_path / "images.npz", Corner())


def test_what_is_neither_folder_nor_npz_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("text")
    for name in ("text.npz", "nowhere.npz"):
        with pytest.raises(SourceError, match=f"{name}: is neither a folder nor an npz file"):
            load_reference(tmp_path / name, Corner())


# Digests and files


def test_a_reference_comes_back_from_its_file(tmp_path: Path) -> None:
    images = pictures(5)
    np.savez(tmp_path / "both.npz", images, mu=np.ones(6), sigma=np.eye(6), mu_s=np.zeros(4), sigma_s=np.eye(4))
    np.savez(tmp_path / "images.npz", images)
    np.savez(tmp_path / "moments.npz", mu=np.ones(6), sigma=np.eye(6))
    for name in ("both", "images", "moments"):
        made = load_reference(tmp_path / f"{name}.npz", Corner())
        made.save(tmp_path / "reference.safetensors")
        back = Reference.open(tmp_path / "reference.safetensors")
        assert (back.extractor, back.digest) == (made.extractor, made.digest)
        assert torch.equal(back.gaussian.covariance, made.gaussian.covariance)
        assert back.gaussian.count == made.gaussian.count
        assert (back.features is None) == (made.features is None)
        assert back.features is None or made.features is None or torch.equal(back.features, made.features)
        assert (back.spatial is None) == (made.spatial is None)
    with pytest.raises(SourceError, match=re.escape("both.npz: is not a saved reference")):
        Reference.open(tmp_path / "both.npz")


def test_the_digest_of_a_reference_is_of_images_extractor_and_how_many_features() -> None:
    def digest(seed: int = 0, weights: str = "d", most_features: int = 9) -> str:
        extract = Corner()
        extract.digest = weights * 64
        return make_reference(ShapesImages(seed=seed, count=20), extract, most_features=most_features).digest

    assert len({digest(), digest(seed=1), digest(weights="e"), digest(most_features=8)}) == 4
    assert digest() == digest()


# Shapes


@pytest.fixture(scope="module")
def extract() -> ShapesFeatures:
    extractor = load_extractor("shapes-classifier", CLASSIFIER)
    assert isinstance(extractor, ShapesFeatures)
    return extractor


def test_shapes_are_drawn_of_their_labels_in_turn_whatever_the_batches() -> None:
    source = ShapesImages([5, 90, 7], seed=4, count=301)
    assert source.labels[:4].tolist() == [5, 90, 7, 5]
    whole, parts = torch.cat(list(source.batches(300))), torch.cat(list(source.batches(7)))
    assert (whole.shape, whole.dtype) == ((301, 3, 16, 16), torch.uint8)
    assert torch.equal(whole, parts)
    assert max(len(batch) for batch in source.batches(64)) == 64


def test_shapes_refuse_labels_there_are_not() -> None:
    for labels in ([100], [-1]):
        with pytest.raises(SourceError, match="from 0 to 99"):
            ShapesImages(labels)
    with pytest.raises(SourceError, match="at least one label"):
        ShapesImages([])


def test_a_reference_of_shapes_tells_good_samples_from_bad(extract: ShapesFeatures) -> None:
    reference = make_reference(ShapesImages(seed=0, count=600), extract)
    good = ShapesImages(seed=1, count=600)
    images = torch.cat(list(good.batches()))
    grey = (images.float() * 0.15 + 108).to(torch.uint8)  # as if the colours had been pruned away
    assert reference.features is not None
    found = {}
    for name, shown in (("good", images), ("grey", grey)):
        seen, moments = extract(shown), FeatureMoments(extract.dim)
        moments.add(seen.features)
        assert seen.probabilities is not None
        found[name] = (
            frechet_distance(moments.gaussian(), reference.gaussian),
            precision_recall(seen.features, reference.features).precision,
            inception_score(seen.probabilities, 1).mean,
            bootstrap(class_matches(extract.classify(shown), good.labels)),
        )
    (near, precise, varied, right), (far, imprecise, alike, wrong) = found["good"], found["grey"]
    assert near < far / 5
    assert precise > 0.8 > imprecise
    assert 90 < varied <= 100
    assert alike < varied / 2
    assert right.low > 0.95 > wrong.high
