"""The registered extractors and references: which are there, and what is reported of the others."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from jobs.registry.document import RegistryError
from jobs.registry.evaluation import EXTRACTORS, MEASURES, EvaluationAssets, ExtractorName, Measure
from jobs.registry.models import Registry
from tests.hub import write_cached
from tests.registry import extend, write_evaluated_registry

SHIPPED = Path(__file__).parents[3] / "models" / "models.toml"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_evaluated_registry(tmp_path / "models")


def test_what_is_there_is_found_from_the_folder_of_the_registry(path: Path) -> None:
    found = EvaluationAssets.from_registry(Registry.read(path))
    assert found.extractor("shapes-classifier") == path.parent / "shapes-classifier" / "model.safetensors"
    assert found.missing_extractor("shapes-classifier") is None


def test_what_is_not_there_is_reported_with_what_to_put_where(path: Path) -> None:
    found = EvaluationAssets.from_registry(Registry.read(path))
    lack = found.missing_extractor("inception") or ""
    assert found.extractor("inception") is None
    assert lack.startswith("published/inception.pt does not exist: put the TorchScript file inception-2015-12-05.pt")


def test_what_is_not_registered_is_reported_with_where_to_register_it(path: Path) -> None:
    lack = EvaluationAssets.from_registry(Registry.read(path)).missing_extractor("lpips") or ""
    assert "not registered: under [extractors] of the registry, give the path of the TorchScript file vgg16.pt" in lack


def test_a_file_is_found_as_soon_as_it_is_there(path: Path) -> None:
    found = EvaluationAssets.from_registry(Registry.read(path))
    (path.parent / "published").mkdir()
    (path.parent / "published" / "inception.pt").write_bytes(b"")
    assert found.missing_extractor("inception") is None
    (path.parent / "photos").mkdir()
    assert (found.reference("photos"), found.missing_reference("photos")) == (path.parent / "photos", None)


def test_an_extractor_on_the_hub_is_looked_for_in_its_cache(path: Path, tmp_path: Path) -> None:
    extend(path, {"extractors": {"inception": "hf://owner/inception/inception.pt"}})
    found = EvaluationAssets.from_registry(Registry.read(path, tmp_path / "hub"))
    assert "hf://owner/inception/inception.pt does not exist" in (found.missing_extractor("inception") or "")
    write_cached(tmp_path / "hub", "owner/inception", {"inception.pt": b"weights"})
    there = found.extractor("inception")
    assert there is not None
    assert there.read_bytes() == b"weights"


def test_a_data_set_that_is_drawn_is_always_there(path: Path) -> None:
    found = EvaluationAssets.from_registry(Registry.read(path))
    assert (found.missing_reference("shapes"), found.reference("shapes")) == (None, None)
    assert (found.references["shapes"].title, found.references["photos"].title) == ("shapes", "Photographs")


def test_a_reference_that_is_not_there_or_not_known_is_reported(path: Path) -> None:
    found = EvaluationAssets.from_registry(Registry.read(path))
    assert found.missing_reference("photos") == "the images of reference 'photos' are missing: photos does not exist"
    assert found.missing_reference("moon") == "no reference 'moon' is registered; known references: shapes, photos"


def test_a_registry_may_have_none(path: Path) -> None:
    path.write_text("")
    found = EvaluationAssets.from_registry(Registry.read(path))
    assert found.references == {}
    assert found.missing_reference("shapes") == "no reference 'shapes' is registered; known references: none"


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ("extractors = 3", "extractors must be a table of sources"),
        ("[extractors]\ninception = 3", "extractors must be a table of sources"),
        ("[extractors]\nvgg = 'a.pt'", "extractor 'vgg' does not exist; use shapes-classifier, inception"),
        ("[extractors]\nclip = 'hf://owner'", "extractor 'clip': 'hf://owner' does not have the form"),
        ("references = 3", "references is 3, not a table"),
        ("[references]\na = 3", "reference 'a': is not a table"),
        ("[references.a]", "reference 'a': give the origin of its images"),
        ("[references.a]\nsource = 'a'\ndataset = 'shapes'", "exactly one of source and dataset"),
        ("[references.a]\nsource = ''", "reference 'a': source: "),
        ("[references.a]\nsource = 'hf://owner'", "reference 'a': source: 'hf://owner' does not have the form"),
        ("[references.a]\ndataset = 'cifar'", "reference 'a': dataset: "),
        ("[references.a]\ndataset = 'shapes'\ncount = 1", "reference 'a': count: "),
        ("[references.a]\nsource = 'a'\nsurprise = 1", "reference 'a': surprise: "),
        ("[references.A]\nsource = 'a'", "reference 'A': name: "),
    ],
)
def test_a_registry_with_a_mistake_is_refused_with_the_entry_and_the_mistake(
    path: Path, document: str, why: str
) -> None:
    path.write_text(document)
    with pytest.raises(RegistryError) as error:
        EvaluationAssets.from_registry(Registry.read(path))
    assert str(error.value).startswith(str(path))
    assert why in str(error.value)


def test_every_extractor_and_every_measure_is_described() -> None:
    assert set(EXTRACTORS) == set(get_args(ExtractorName))
    assert set(MEASURES) == set(get_args(Measure))


def test_the_shipped_registry_measures_with_what_it_registers() -> None:
    models = Registry.read(SHIPPED)
    found = EvaluationAssets.from_registry(models)
    assert found.missing_extractor("shapes-classifier") is None
    for entry in models:
        assert entry.reference is None or entry.reference in found.references
        for name in (entry.extractor, entry.classifier):
            assert name is None or "not registered" not in (found.missing_extractor(name) or "")


def test_the_images_of_a_reference_are_counted_without_reading_them(path: Path) -> None:
    folder = path.parent
    (folder / "photos" / "more").mkdir(parents=True)
    for name in ("a.png", "more/b.JPG", "notes.txt"):
        (folder / "photos" / name).write_bytes(b"")
    np.savez(folder / "both.npz", mu=np.zeros(3), arr_0=np.zeros((5, 4, 4, 3), np.uint8))
    np.savez(folder / "moments.npz", mu=np.zeros(3), sigma=np.eye(3))
    (folder / "damaged.npz").write_bytes(b"PK")
    for name, content in (("empty", b""), ("no-array", b"\x93NUMPY\1\0\5\0({[(\n")):
        with zipfile.ZipFile(folder / f"{name}.npz", "w") as archive:
            archive.writestr("arr_0.npy", content)
    with zipfile.ZipFile(folder / "locked.npz", "w") as archive:
        archive.writestr("arr_0.npy", content)
        archive.getinfo("arr_0.npy").flag_bits |= 1
    damaged = ("damaged", "empty", "no-array", "locked")
    extend(path, {"references": {name: {"source": f"{name}.npz"} for name in ("both", "moments", *damaged)}})
    instruments = EvaluationAssets.from_registry(Registry.read(path))
    counts = {name: instruments.image_count(name) for name in ("shapes", "photos", "both", "moments", *damaged)}
    assert counts == {"shapes": 100, "photos": 2, "both": 5, "moments": 0} | dict.fromkeys(damaged)


def test_the_files_of_a_reference_that_are_passed_over_are_counted(path: Path) -> None:
    (path.parent / "photos").mkdir()
    for name in ("a.png", "b.gif", "c.jp2", "notes.txt"):
        (path.parent / "photos" / name).write_bytes(b"")
    registered = EvaluationAssets.from_registry(Registry.read(path))
    assert (registered.passed_over("photos"), registered.passed_over("shapes")) == ({".jp2": 1}, {})


def test_the_images_of_a_folder_that_cannot_be_read_have_no_number(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(folder: str) -> None:
        raise PermissionError(13, "Permission denied", folder)

    (path.parent / "photos").mkdir()
    monkeypatch.setattr("os.scandir", scandir)
    assert EvaluationAssets.from_registry(Registry.read(path)).image_count("photos") is None
