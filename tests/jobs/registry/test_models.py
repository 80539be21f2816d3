"""The registry: what entries say, what goes without saying, and which files are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.registry.defaults import IMAGENET_LABELS, ModelDefaults
from jobs.registry.document import RegistryError
from jobs.registry.models import ModelEntry, Registry, UnknownModel
from tailprune.spec.families import FAMILIES
from tests.hub import write_cached
from tests.registry import write_document, write_registry

ROOT = Path(__file__).parents[3]
OFFICIAL = json.loads((ROOT / "tests" / "reference" / "official_checkpoints.json").read_text())
PUBLISHED = {
    "DiT-XL/2 256": "dit-xl-2-256",
    "SiT-XL/2 256": "sit-xl-2-256",
    "MDTv2-XL/2 256": "mdtv2-xl-2-256",
    "LightningDiT-XL/1 256": "lightningdit-xl-1-256",
    "REPA SiT-XL/2 256": "repa-sit-xl-2-256",
    "MG SiT-XL/2 256": "mg-sit-xl-2-256",
    "X-MDPT-S 256": "x-mdpt-s-256",
    "X-MDPT-B 256": "x-mdpt-b-256",
    "X-MDPT-L 256": "x-mdpt-l-256",
    "MDSGen-B": "mdsgen-b",
}
LABEL_FAMILIES = [name for name, family in FAMILIES.items() if not family.features]
FEATURE_FAMILIES = [name for name, family in FAMILIES.items() if family.features]
LABELLED = {"checkpoint": "a.pt", "classes": 1000, "condition_dim": 1152, "latent_shape": [4, 32, 32]}
"""An entry of six lines, with its name and family."""
FEATURED = {"checkpoint": "a.pt", "condition_dim": 768}


def entry_of(folder: Path, family: str, hub_cache: Path | None = None, **changes: Any) -> ModelEntry:
    """An entry that says no more than it has to, but for the changes; None takes a line out."""
    said = {"family": family, **(FEATURED if FAMILIES[family].features else LABELLED), **changes}
    table = {key: value for key, value in said.items() if value is not None}
    return Registry.read(write_document(folder, {"models": {"a": table}}), hub_cache).get("a")


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"content")


@pytest.fixture(scope="module")
def committed() -> Registry:
    return Registry.read(ROOT / "models" / "models.toml")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_registry(tmp_path / "models")


def test_an_unknown_model_is_answered_with_the_known_ones(path: Path) -> None:
    with pytest.raises(UnknownModel, match="no model is named 'nothing'; known models: shapes-sit, absent-dit"):
        Registry.read(path).get("nothing")


def test_a_model_says_which_of_its_files_are_missing(path: Path) -> None:
    registry = Registry.read(path)
    assert registry.get("shapes-sit").ready
    assert registry.get("absent-dit").missing == ["absent-dit/model.safetensors"]


def test_labels_have_the_names_of_the_file_beside_the_registry(path: Path) -> None:
    registry = Registry.read(path)
    assert registry.get("shapes-sit").names[17] == "class 17"
    assert registry.get("absent-dit").names == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[models.x]\ntitle = 1", "model 'x'"),
        ("models =", "Invalid value"),
        ("[model.x]\ntitle = 1", "a registry has the tables extractors, models, references, not model$"),
        ("models = 1", "models is 1, not a table"),
        ("[models]\nx = 1", "model 'x'"),
        ("[models.x]\nname = 'y'", "model 'x'.*name"),
        ("[models.x]\nfamily = 'unet'", r"model 'x'(.|\n)*family 'unet' is not one of dit, sit, mdt, lightningdit"),
        ("[models.X]\nfamily = 'sit'", r"model 'X'(.|\n)*should match pattern"),
    ],
)
def test_a_registry_that_cannot_be_used_names_the_file_and_the_fault(path: Path, text: str, fault: str) -> None:
    path.write_text(text)
    with pytest.raises(RegistryError, match=fault) as error:
        Registry.read(path)
    assert str(path) in str(error.value)


def test_a_registry_that_is_not_there_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="TAILPRUNE_REGISTRY"):
        Registry.read(tmp_path / "models.toml")


@pytest.mark.parametrize("family", LABEL_FAMILIES)
def test_an_entry_of_six_lines_is_complete(tmp_path: Path, family: str) -> None:
    entry = entry_of(tmp_path, family)
    assert entry.title == entry.name == "a"
    assert entry.latent_shape == (4, 32, 32)
    assert (entry.decoder, entry.licence, entry.source) == ("latents", "not stated", "not stated")


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_request_does_not_say_is_as_the_authors_of_the_family_sample(tmp_path: Path, family: str) -> None:
    facts = FAMILIES[family]
    labels = None if facts.features else IMAGENET_LABELS
    assert entry_of(tmp_path, family).defaults == ModelDefaults(**facts.published, labels=labels)


@pytest.mark.parametrize(("classes", "labels"), [(1000, IMAGENET_LABELS), (100, list(range(8))), (3, [0, 1, 2])])
def test_the_labels_shown_are_some_that_the_model_has(tmp_path: Path, classes: int, labels: list[int]) -> None:
    assert entry_of(tmp_path, "dit", classes=classes).defaults.labels == labels


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sampler", "heun"),
        ("steps", 20),
        ("guidance_scale", 2.5),
        ("guidance_interval", [0.25, 0.75]),
        ("guided_channels", "all"),
        ("timestep_shift", 0.5),
        ("labels", [7]),
        ("samples_per_label", 4),
    ],
)
def test_a_default_in_the_entry_wins_and_the_others_stay_published(tmp_path: Path, name: str, value: Any) -> None:
    published = entry_of(tmp_path, "lightningdit").defaults
    assert getattr(published, name) != value
    said = entry_of(tmp_path, "lightningdit", defaults={name: value}).defaults
    assert said == published.model_copy(update={name: value})


@pytest.mark.parametrize("family", FEATURE_FAMILIES)
def test_a_model_that_takes_conditions_needs_neither_classes_nor_latent_shape(tmp_path: Path, family: str) -> None:
    entry = entry_of(tmp_path, family)
    assert (entry.classes, entry.latent_shape) == (None, FAMILIES[family].latents)


@pytest.mark.parametrize(
    ("family", "changes", "fault"),
    [
        ("x-mdpt", {"classes": 10}, "x-mdpt takes pose, image, latents, not labels; leave classes out"),
        ("mdsgen", {"classes": 10}, "mdsgen takes video, not labels; leave classes out"),
        *((family, {"classes": None}, "classes is missing; give the number of class") for family in LABEL_FAMILIES),
        ("dit", {"latent_shape": None}, "latent_shape: Field required"),
        ("dit", {"colour": "red"}, "colour: Extra inputs are not permitted"),
        (
            "dit",
            {"defaults": {"sampler": "euler"}},
            "defaults.sampler: 'euler' does not fit dit; use one of ddim, ddpm",
        ),
        ("sit", {"defaults": {"sampler": "ddim"}}, "defaults.sampler: 'ddim' does not fit sit; use one of euler"),
        ("sit", {"defaults": {"speed": 1}}, "defaults.speed: Extra inputs are not permitted"),
        ("sit", {"defaults": 1}, "defaults: Input should be"),
        ("dit", {"defaults": {"labels": [0, 1000]}}, "defaults.labels: label 1000 is outside 0 to 999"),
        ("dit", {"defaults": {"labels": [-1]}}, "defaults.labels: label -1 is outside 0 to 999"),
        ("x-mdpt", {"defaults": {"labels": [0]}}, "defaults.labels: x-mdpt takes pose, image, latents, not labels"),
        ("dit", {"decoder": "pixels"}, "decoder 'pixels' takes 3 channels, but latent_shape has 4; use 'latents'"),
        ("dit", {"decoder": "audioldm"}, "decoder 'audioldm' takes 8 channels, but latent_shape has 4"),
        ("mdsgen", {"decoder": "sd-vae"}, "decoder 'sd-vae' takes 4 channels, but latent_shape has 8"),
        ("dit", {"decoder": "vae"}, "decoder: Input should be 'pixels', 'latents', 'sd-vae', 'va-vae' or 'audioldm'"),
        (
            "dit",
            {"decoder_source": "vae"},
            "decoder 'latents' needs no files; leave decoder_source, decoder_statistics and",
        ),
        (
            "dit",
            {"decoder_statistics": "latents.pt"},
            "decoder 'latents' needs no files; leave decoder_source, decoder_statistics and",
        ),
        *(
            ("dit", {"decoder": "sd-vae", key: "hf://owner"}, f"{key}: 'hf://owner' does not have the form")
            for key in ("checkpoint", "decoder_source", "decoder_statistics")
        ),
    ],
)
def test_an_entry_that_cannot_be_is_refused_with_the_fault(
    tmp_path: Path, family: str, changes: dict[str, Any], fault: str
) -> None:
    with pytest.raises(RegistryError) as error:
        entry_of(tmp_path, family, **changes)
    assert f"{tmp_path / 'models.toml'}, model 'a': " in str(error.value)
    assert fault in str(error.value)


@pytest.mark.parametrize("place", ["a.pt", "runs/a.pt", "../elsewhere/a.pt"])
def test_a_file_that_is_missing_is_named_from_the_folder_of_the_registry(tmp_path: Path, place: str) -> None:
    assert entry_of(tmp_path, "dit", checkpoint=place).missing == [place]


def test_a_file_that_is_missing_elsewhere_is_named_in_full(tmp_path: Path) -> None:
    elsewhere = f"{tmp_path}-elsewhere/a.pt"
    assert entry_of(tmp_path, "dit", checkpoint=elsewhere).missing == [elsewhere]


def test_the_names_of_classes_are_missed_too(tmp_path: Path) -> None:
    put(tmp_path, "a.pt")
    entry = entry_of(tmp_path, "dit", class_names="names/classes.txt")
    assert (entry.missing, entry.ready) == (["names/classes.txt"], False)


def test_a_checkpoint_on_the_hub_is_missing_until_it_was_fetched(tmp_path: Path) -> None:
    source = "hf://owner/repo/last.pt"
    entry = entry_of(tmp_path, "dit", tmp_path / "hub", checkpoint=source)
    assert (entry.missing, entry.local_checkpoint) == ([source], None)
    snapshot = write_cached(tmp_path / "hub", "owner/repo", {"last.pt": b"weights"})
    assert (entry.missing, entry.local_checkpoint) == ([], snapshot / "last.pt")


def test_a_decoder_whose_files_are_missing_leaves_the_model_ready_and_shows_latents(tmp_path: Path) -> None:
    put(tmp_path, "a.pt")
    entry = entry_of(tmp_path, "dit", decoder="sd-vae", decoder_source="vae")
    assert (entry.decoding.shown.name, entry.decoding.shown.ready, entry.decoding.shown.missing) == (
        "sd-vae",
        False,
        ["vae"],
    )
    assert (entry.ready, entry.decoding.in_use, entry.decoding.files) == (True, "latents", [])


def test_a_decoder_whose_files_are_there_is_used(tmp_path: Path) -> None:
    put(tmp_path, "vae/config.json", "vae/diffusion_pytorch_model.safetensors")
    entry = entry_of(tmp_path, "dit", decoder="sd-vae", decoder_source="vae")
    assert (entry.decoding.shown.ready, entry.decoding.shown.missing) == (True, [])
    assert (entry.decoding.in_use, entry.decoding.files) == ("sd-vae", [tmp_path / "vae"])


def test_a_decoder_on_the_hub_is_used_once_it_was_fetched(tmp_path: Path) -> None:
    entry = entry_of(tmp_path, "dit", tmp_path / "hub", decoder="sd-vae", decoder_source="hf://owner/vae")
    assert (entry.decoding.shown.missing, entry.decoding.in_use) == (["hf://owner/vae"], "latents")
    files = {"config.json": b"{}", "diffusion_pytorch_model.bin": b"weights"}
    snapshot = write_cached(tmp_path / "hub", "owner/vae", files)
    assert (entry.decoding.in_use, entry.decoding.files) == ("sd-vae", [snapshot])


@pytest.mark.parametrize(
    ("said", "missing"),
    [
        ({}, ["decoder_source of va-vae", "decoder_statistics of va-vae"]),
        ({"decoder_source": "vae.pt"}, ["decoder_statistics of va-vae"]),
        ({"decoder_source": "vae.pt", "decoder_statistics": "latents.pt"}, ["latents.pt"]),
    ],
)
def test_a_va_vae_without_statistics_is_not_used(tmp_path: Path, said: dict[str, str], missing: list[str]) -> None:
    put(tmp_path, "vae.pt")
    entry = entry_of(tmp_path, "lightningdit", latent_shape=[32, 16, 16], decoder="va-vae", **said)
    assert (entry.decoding.shown.ready, entry.decoding.shown.missing) == (False, missing)
    assert (entry.decoding.in_use, entry.decoding.files) == ("latents", [])


def test_a_va_vae_with_statistics_is_used(tmp_path: Path) -> None:
    put(tmp_path, "vae.pt", "latents.pt")
    said = {"decoder": "va-vae", "decoder_source": "vae.pt", "decoder_statistics": "latents.pt"}
    entry = entry_of(tmp_path, "lightningdit", latent_shape=[32, 16, 16], **said)
    assert entry.decoding.in_use == "va-vae"
    assert entry.decoding.files == [tmp_path / "vae.pt", tmp_path / "latents.pt"]


@pytest.mark.parametrize("decoder", ["sd-vae", "audioldm"])
def test_a_decoder_that_no_files_are_named_of_is_not_used(tmp_path: Path, decoder: str) -> None:
    entry = entry_of(tmp_path, *(["mdsgen"] if decoder == "audioldm" else ["dit"]), decoder=decoder)
    assert (entry.decoding.shown.missing, entry.decoding.in_use) == ([f"decoder_source of {decoder}"], "latents")


WEIGHTS = "diffusion_pytorch_model.safetensors"
AUTOENCODER = ["vae/config.json", f"vae/{WEIGHTS}"]


@pytest.mark.parametrize(
    ("family", "decoder", "there", "missing"),
    [
        ("dit", "sd-vae", ["config.json"], [f"folder/{WEIGHTS}"]),
        ("dit", "sd-vae", [WEIGHTS], ["folder/config.json"]),
        ("dit", "sd-vae", ["vae/config.json"], [f"folder/vae/{WEIGHTS}"]),
        ("dit", "sd-vae", AUTOENCODER, []),
        ("mdsgen", "audioldm", AUTOENCODER, ["folder/vocoder/config.json", "folder/vocoder/model.safetensors"]),
        ("mdsgen", "audioldm", [*AUTOENCODER, "vocoder/config.json", "vocoder/pytorch_model.bin"], []),
    ],
)
def test_a_decoder_half_of_which_is_there_is_not_used_and_says_what_it_lacks(
    tmp_path: Path, family: str, decoder: str, there: list[str], missing: list[str]
) -> None:
    put(tmp_path, *(f"folder/{name}" for name in there))
    decoding = entry_of(tmp_path, family, decoder=decoder, decoder_source="folder").decoding
    assert (decoding.shown.missing, decoding.in_use) == (missing, "latents" if missing else decoder)
    assert (decoding.note is None) == (not missing)


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        ([], ["folder/model.safetensors"]),
        (["model.safetensors"], []),
        (["transformer/config.json"], [f"folder/transformer/{WEIGHTS}"]),
        (["config.json", WEIGHTS], []),
    ],
)
def test_a_folder_is_a_checkpoint_once_all_of_it_is_there(tmp_path: Path, there: list[str], missing: list[str]) -> None:
    (tmp_path / "folder").mkdir()
    put(tmp_path, *(f"folder/{name}" for name in there))
    assert entry_of(tmp_path, "dit", checkpoint="folder").missing == missing


def test_every_file_of_an_index_has_to_be_there(tmp_path: Path) -> None:
    put(tmp_path, "folder/config.json", "folder/b-1.safetensors")
    index = tmp_path / "folder" / f"{WEIGHTS}.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "b-1.safetensors", "y": "b-2.safetensors"}}))
    assert entry_of(tmp_path, "dit", checkpoint="folder").missing == ["folder/b-2.safetensors"]


def test_paths_of_this_machine_are_told_as_the_registry_names_them(tmp_path: Path) -> None:
    put(tmp_path, "a.pt", "vae/config.json")
    entry = entry_of(tmp_path, "dit", tmp_path / "hub", checkpoint="a.pt", decoder="sd-vae", decoder_source="vae")
    assert entry.place_of(f"{tmp_path}/a.pt: no; {tmp_path}/vae/x: no") == "a.pt: no; vae/x: no"
    snapshot = write_cached(tmp_path / "hub", "owner/repo", {"last.pt": b"weights"})
    far = entry_of(tmp_path, "dit", tmp_path / "hub", checkpoint="hf://owner/repo/last.pt")
    assert far.place_of(f"{snapshot / 'last.pt'}: no") == "hf://owner/repo/last.pt: no"


def test_names_of_classes_may_have_the_marks_of_other_editors(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes("\ufeffa b\r\nc\x0bd\r\n\r\n".encode())
    entry = entry_of(tmp_path, "dit", classes=2, class_names="names.txt")
    assert entry.names == ["a b", "c\x0bd"]


@pytest.mark.parametrize(("content", "fault"), [(b"caf\xe9\ntea\n", "is not UTF-8"), (b"a\nb\nc\n", "has 3 names")])
def test_names_that_are_not_those_of_the_classes_are_refused(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(RegistryError, match=fault):
        entry_of(tmp_path, "dit", classes=2, class_names="names.txt")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"defaults": {"guidance_interval": [0.1, 0.2, 0.3]}},
            "defaults.guidance_interval: List should have at most 2",
        ),
        ({"defaults": {"guidance_interval": [0.5, 0.2]}}, "defaults.guidance_interval: 0.5 to 0.2 is empty"),
        ({"defaults": {"guidance_interval": [0.5, 7.0]}}, "defaults.guidance_interval: time 7 is outside 0 to 1"),
        ({"defaults": {"timestep_shift": -1.0}}, "defaults.timestep_shift: Input should be greater than 0"),
        ({"defaults": {"guided_channels": 77}}, "defaults.guided_channels: 77 is more than the 4 channels"),
        ({"latent_shape": [4, -8, 8]}, "latent_shape.1: Input should be greater than or equal to 1"),
        (
            {"null_condition": False, "defaults": {"guidance_scale": 1.5}},
            "defaults.guidance_scale: must be 1 for a model without a null condition",
        ),
        ({"num_heads": 0}, "num_heads: Input should be greater than or equal to 1"),
        ({"display_scale": 10**6}, "display_scale: Input should be less than or equal to 64"),
        ({"checkpoint": ""}, "checkpoint: String should have at least 1 character"),
        ({"decoder": "sd-vae", "decoder_statistics": "x.pt"}, "decoder 'sd-vae' takes no statistics"),
        ({"latent_shape": [8, 8, 8], "decoder": "audioldm"}, "decodes the latents of mdsgen, not those of sit"),
    ],
)
def test_a_mistake_is_refused_when_the_registry_is_read(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(RegistryError) as error:
        entry_of(tmp_path, "sit", **changes)
    assert fault in str(error.value)
    assert "pydantic" not in str(error.value)


@pytest.mark.parametrize(("family", "decoder"), [("dit", "latents"), ("sit", "pixels")])
def test_a_decoder_made_from_no_files_is_ready(tmp_path: Path, family: str, decoder: str) -> None:
    entry = entry_of(tmp_path, family, latent_shape=[3, 16, 16], decoder=decoder)
    assert (entry.decoding.shown.ready, entry.decoding.in_use, entry.decoding.files) == (True, decoder, [])


def test_the_committed_registry_has_every_family(committed: Registry) -> None:
    assert {entry.family for entry in committed} == FAMILIES.keys()


def test_the_shipped_model_of_the_committed_registry_is_ready(committed: Registry) -> None:
    assert committed.get("shapes-sit").ready


def test_the_committed_registry_has_the_published_models_and_no_other_but_those_on_shapes(committed: Registry) -> None:
    assert {entry.name for entry in committed if not entry.name.startswith("shapes-")} == set(PUBLISHED.values())


@pytest.mark.parametrize(("official", "name"), PUBLISHED.items())
def test_a_published_model_is_registered_as_its_file_is(committed: Registry, official: str, name: str) -> None:
    entry, published = committed.get(name), OFFICIAL[official]
    assert entry.family == published["family"]
    assert (entry.parameters, entry.condition_dim) == (published["parameters"], published["condition_dim"])


@pytest.mark.parametrize("name", PUBLISHED.values())
def test_a_published_model_is_sampled_as_its_authors_do(committed: Registry, name: str) -> None:
    entry = committed.get(name)
    assert entry.defaults.model_dump(include=set(entry.facts.published)) == dict(entry.facts.published)


@pytest.mark.parametrize("name", PUBLISHED.values())
def test_a_published_model_says_how_to_have_it_and_where_it_comes_from(committed: Registry, name: str) -> None:
    entry = committed.get(name)
    assert entry.obtain
    assert "arXiv" in entry.source
    if entry.checkpoint.startswith("hf://"):
        assert entry.obtain == f"tailprune models fetch {name}"
    else:
        assert f"models/published/{Path(entry.checkpoint).name}" in entry.obtain
