"""`tailprune models`: what it writes into the registry, and what it prints."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from click.testing import Result
from safetensors.torch import save, save_file
from typer.testing import CliRunner

from jobs.registry.evaluation import EvaluationAssets
from jobs.registry.models import ModelEntry, Registry
from jobs.settings import Settings, get_settings
from jobs.views import ModelSummary, ModelView
from service.cli import app
from tailprune.systems import DiT, SiT
from tests.hub import FakeHub, answer_here, is_about_the_hub, write_cached
from tests.registry import extend, write_registry
from tests.tailprune.conftest import random_system
from tests.tailprune.parity import read

REFERENCE = Path(__file__).parents[2] / "reference"
AS_DIT = ("--family", "dit", "--num-heads", "4")
ON_THE_HUB: dict[str, Any] = {
    "family": "dit",
    "classes": 10,
    "condition_dim": 32,
    "latent_shape": [4, 8, 8],
    "checkpoint": "hf://owner/far/last.pt",
    "decoder": "sd-vae",
    "decoder_source": "hf://owner/vae",
}

EVALUATED: dict[str, Any] = {
    "extractors": {"inception": "shapes-sit/classes.txt"},
    "references": {"photos": {"source": "photos"}},
    "models": {
        "judged": {
            "family": "sit",
            "classes": 10,
            "condition_dim": 32,
            "latent_shape": [3, 8, 8],
            "checkpoint": "judged.pt",
            "decoder": "pixels",
            "classifier": "shapes-classifier",
            "reference": "photos",
        }
    },
}


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The registry of the tests, which settings name; nothing is fetched from anywhere."""
    path = write_registry(tmp_path / "models")
    monkeypatch.setenv("TAILPRUNE_REGISTRY", str(path))
    monkeypatch.setenv("TAILPRUNE_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TAILPRUNE_OFFLINE", "1")
    monkeypatch.delenv("TAILPRUNE_URL", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("service.cli.models.get_settings", Settings)
    return path


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> None:
    """The science is asked in this process, which has it imported."""
    monkeypatch.setattr("jobs.registry.registration.science", answer_here(monkeypatch))


@pytest.fixture
def checkpoint(registry: Path) -> Path:
    """A DiT that might be a SiT, in the registry's folder."""
    path = registry.parent / "new" / "last.safetensors"
    path.parent.mkdir()
    state = random_system(DiT).state_dict()
    save_file(state, path)
    state["final_layer.linear.bias"][0] = float("nan")
    save_file(state, path.with_name("nan.safetensors"))
    return path


@pytest.fixture
def hub(processes: None, registry: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that has what the registry's `far` is made of."""
    vae = {"config.json": b"{}", "diffusion_pytorch_model.safetensors": b"decoder"}
    hub = FakeHub({"owner/far": {"last.pt": b"weights"}, "owner/vae": vae})
    for name in list(os.environ):
        if is_about_the_hub(name) and name not in ("TAILPRUNE_REGISTRY", "TAILPRUNE_HUB_CACHE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(registry.parent / "home"))
    yield hub
    hub.stop()


def tailprune(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["models", *map(str, arguments)])


def added(registry: Path, *arguments: object) -> ModelEntry:
    """The entry that the registry has once it was added as `new`."""
    said = tailprune("add", "new", *arguments)
    assert said.exit_code == 0, said.stderr
    return Registry.read(registry).get("new")


def add_far(registry: Path, **more: Any) -> None:
    """Add a model whose files are on the hub."""
    extend(registry, {"models": {"far": ON_THE_HUB | more}})


def state(registry: Path) -> tuple[bytes, list[str]]:
    """The registry, and what lies beside it."""
    return registry.read_bytes(), sorted(path.name for path in registry.parent.iterdir())


def test_a_model_is_added_by_a_process_that_has_the_science(processes: None, registry: Path, checkpoint: Path) -> None:
    entry = added(registry, checkpoint, *AS_DIT)
    assert (entry.family, entry.ready) == ("dit", True)


@pytest.mark.usefixtures("near")
def test_an_added_model_is_what_its_checkpoint_turns_out_to_be(registry: Path, checkpoint: Path) -> None:
    entry = added(registry, checkpoint, *AS_DIT)
    system = random_system(DiT)
    assert (entry.family, entry.num_heads, entry.classes, entry.condition_dim) == ("dit", 4, 10, 32)
    assert entry.latent_shape == (4, 8, 8)
    assert entry.parameters == sum(tensor.numel() for tensor in system.state_dict().values())


@pytest.mark.usefixtures("near")
def test_classes_without_a_null_condition_are_added_as_such(registry: Path, checkpoint: Path) -> None:
    entry = added(registry, checkpoint, *AS_DIT, "--classes", 11)
    assert (entry.classes, entry.null_condition, entry.defaults.guidance_scale) == (11, False, 1.0)


@pytest.mark.usefixtures("near")
def test_the_weights_that_were_taken_are_kept_and_said(registry: Path, tmp_path: Path) -> None:
    state = random_system(DiT, hidden_size=384, num_heads=8).state_dict()
    torch.save({"model": state, "model_ema": state}, tmp_path / "last.pt")
    said = tailprune("add", "new", tmp_path / "last.pt", "--family", "dit")
    entry = Registry.read(registry).get("new")
    assert (entry.key, entry.num_heads, entry.num_heads_assumed) == ("model_ema", 6, True)
    assert "uses the weights under 'model_ema', not those under 'model': choose with --key" in said.stdout
    assert "6 attention heads assumed, as published for a width of 384: --num-heads" in said.stdout
    assert "10 classes and the null condition; --classes 11 if the last row is a class too" in said.stdout
    chosen = tailprune("add", "raw", tmp_path / "last.pt", "--family", "dit", "--key", "model", "--num-heads", 8)
    assert chosen.exit_code == 0, chosen.stderr
    entry = Registry.read(registry).get("raw")
    assert (entry.key, entry.num_heads, entry.num_heads_assumed) == ("model", 8, False)


@pytest.mark.usefixtures("near")
@pytest.mark.parametrize("count", [3, 11])
def test_another_number_of_names_than_of_classes_is_refused(registry: Path, checkpoint: Path, count: int) -> None:
    names = registry.parent / "names.txt"
    names.write_text("".join(f"class {label}\n" for label in range(count)))
    said = tailprune("add", "new", checkpoint, *AS_DIT, "--class-names", names)
    assert said.exit_code == 1
    assert f"names.txt has {count} names, and the model has 10 classes; give one name a line" in said.stderr


@pytest.mark.usefixtures("near")
def test_an_added_model_that_takes_conditions_has_no_classes(registry: Path, tmp_path: Path) -> None:
    case = read(REFERENCE / "x-mdpt-a.pt.xz")
    torch.save(case["state_dict"], tmp_path / "person.pt")
    config = case["config"]
    heads, layer = config["num_heads"], config["decode_layer"]
    entry = added(registry, tmp_path / "person.pt", "--num-heads", heads, "--decode-layer", layer)
    assert (entry.family, entry.classes, entry.decode_layer) == ("x-mdpt", None, layer)


@pytest.mark.usefixtures("near")
def test_what_was_said_of_an_added_model_is_kept(registry: Path, checkpoint: Path) -> None:
    names = registry.parent / "names.txt"
    names.write_text("".join(f"class {label}\n" for label in range(10)))
    said = {
        "title": "A DiT of ours",
        "class-names": names,
        "decoder": "va-vae",
        "decoder-source": "hf://hustvl/vavae/vavae.pt",
        "decoder-statistics": registry.parent / "new" / "latents.pt",
        "decoder-scale": 0.5,
        "licence": "MIT",
    }
    options = [word for name, value in said.items() for word in (f"--{name}", value)]
    entry = added(registry, checkpoint, *AS_DIT, *options)
    assert (entry.title, entry.licence, entry.names[7]) == ("A DiT of ours", "MIT", "class 7")
    assert (entry.decoder, entry.decoder_source, entry.decoder_scale) == ("va-vae", "hf://hustvl/vavae/vavae.pt", 0.5)
    assert entry.decoding.shown.missing == ["hf://hustvl/vavae/vavae.pt", "new/latents.pt"]


@pytest.mark.usefixtures("near", "checkpoint")
@pytest.mark.parametrize("source", ["models/new/last.safetensors", "./models/new/../new/last.safetensors"])
def test_a_checkpoint_in_the_folder_of_the_registry_is_named_from_there(
    registry: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(registry.parents[1])
    entry = added(registry, source, *AS_DIT)
    assert f'checkpoint = "{source.removeprefix("./").removeprefix("models/")}"' in registry.read_text()
    assert entry.ready


@pytest.mark.usefixtures("near")
def test_a_checkpoint_elsewhere_is_named_in_full(
    registry: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.rename(tmp_path / "last.safetensors")
    monkeypatch.chdir(tmp_path)
    entry = added(registry, "last.safetensors", *AS_DIT)
    assert f'checkpoint = "{tmp_path}/last.safetensors"' in registry.read_text()
    assert entry.ready


@pytest.mark.usefixtures("near")
def test_a_checkpoint_on_the_hub_is_named_by_its_place_there(registry: Path, tmp_path: Path) -> None:
    files = {"last.safetensors": save(random_system(DiT).state_dict())}
    write_cached(tmp_path / "hub", "owner/repo", files)
    entry = added(registry, "hf://owner/repo/last.safetensors", *AS_DIT)
    assert entry.checkpoint == "hf://owner/repo/last.safetensors"


@pytest.mark.usefixtures("near")
def test_what_the_registry_said_before_it_says_still(registry: Path, checkpoint: Path) -> None:
    registry.write_text(registry.read_text() + "# a remark\n")
    registry.chmod(0o640)
    before = registry.read_text()
    added(registry, checkpoint, *AS_DIT)
    assert registry.read_text().startswith(before)
    assert stat.S_IMODE(registry.stat().st_mode) == 0o640


@pytest.mark.usefixtures("near")
def test_what_samples_are_measured_with_stays_registered(registry: Path, checkpoint: Path) -> None:
    (registry.parent / "photos").mkdir()
    extend(registry, EVALUATED)
    entry = added(registry, checkpoint, *AS_DIT)
    after = EvaluationAssets.from_registry(Registry.read(registry))
    assert after.extractor("inception") == registry.parent / "shapes-sit" / "classes.txt"
    assert (list(after.references), after.missing_reference("photos")) == (["photos"], None)
    assert (entry.extractor, entry.classifier, entry.reference) == (None, None, None)
    assert Registry.read(registry).get("judged").reference == "photos"


@pytest.mark.usefixtures("near")
def test_a_model_may_be_added_beside_another_that_was(registry: Path, checkpoint: Path) -> None:
    added(registry, checkpoint, *AS_DIT)
    assert tailprune("add", "newer", checkpoint, *AS_DIT).exit_code == 0
    assert [entry.name for entry in Registry.read(registry)] == ["shapes-sit", "absent-dit", "new", "newer"]


@pytest.mark.usefixtures("near")
def test_families_whose_files_look_the_same_are_reported(registry: Path, tmp_path: Path) -> None:
    save_file(random_system(SiT, learn_sigma=False).state_dict(), tmp_path / "sit.safetensors")
    said = tailprune("add", "new", tmp_path / "sit.safetensors", "--num-heads", 4)
    assert "read as sit; files of " in said.stdout
    assert "have the same tensors: choose with --family" in said.stdout


@pytest.mark.usefixtures("near")
def test_who_says_the_family_is_not_told_of_others(registry: Path, tmp_path: Path) -> None:
    save_file(random_system(SiT, learn_sigma=False).state_dict(), tmp_path / "sit.safetensors")
    said = tailprune("add", "new", tmp_path / "sit.safetensors", "--family", "sit", "--num-heads", 4)
    assert "can look the same" not in said.stdout


@pytest.mark.usefixtures("near")
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["shapes-sit", "new/last.safetensors", *AS_DIT], "already has a model 'shapes-sit'; choose another name"),
        (["new", "shapes-sit/classes.txt"], "classes.txt: the name of a checkpoint ends in .safetensors"),
        (["new", "shapes-sit/model.safetensors"], "not a file of tensors"),
        (["new", "new/none.pt"], "no checkpoint at "),
        (["new", "hf://owner/repo/last.pt"], "hf://owner/repo/last.pt is not in the cache"),
        (["new", "new/last.safetensors", "--num-heads", 4], "give family, one of dit, sit"),
        (["new", "new/last.safetensors", "--family", "unet"], "there is no family 'unet': give one of dit, sit"),
        (["new", "new/nan.safetensors", *AS_DIT], "final_layer.linear.bias holds NaN or infinity, in 1 of"),
        (["New", "new/last.safetensors", *AS_DIT], "should match pattern"),
        (["a/b", "new/last.safetensors", *AS_DIT], "should match pattern"),
        (["new", "new/last.safetensors", *AS_DIT, "--decoder", "pixels"], "decoder 'pixels' takes 3 channels"),
        (
            ["new", "new/last.safetensors", *AS_DIT, "--decoder-source", "vae"],
            "needs no files; leave",
        ),
        (["new", "new/last.safetensors", *AS_DIT, "--decoder", "sd-vae", "--decoder-source", "hf://owner"], "the form"),
    ],
)
def test_what_cannot_be_added_is_refused_and_the_registry_stays(
    registry: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[object], why: str
) -> None:
    monkeypatch.chdir(registry.parent)
    before = state(registry)
    said = tailprune("add", *arguments)
    assert said.exit_code == 1
    assert said.stderr.startswith("tailprune: ")
    assert why in said.stderr
    assert state(registry) == before


def test_nothing_is_added_to_the_registry_of_an_installed_package(
    registry: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailprune.spec.registry.SHIPPED", registry)
    before = registry.read_bytes()
    said = tailprune("add", "new", checkpoint, *AS_DIT)
    assert said.exit_code == 1
    assert f"cp -r {registry.parent} models" in said.stderr
    assert registry.read_bytes() == before


def test_a_setting_that_cannot_be_used_is_reported(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILPRUNE_MAX_STEPS", "many")
    monkeypatch.setattr("service.cli.models.get_settings", get_settings.__wrapped__)
    said = tailprune("list")
    assert said.exit_code == 1
    assert "TAILPRUNE_MAX_STEPS=many: input should be a valid integer" in said.stderr


@pytest.mark.usefixtures("near")
def test_a_model_of_the_registry_is_not_taken_for_a_file(registry: Path, checkpoint: Path) -> None:
    added(registry, checkpoint, *AS_DIT)
    said = tailprune("add", "newer", "new")
    assert said.exit_code == 1
    assert f"no checkpoint at {Path('new').absolute()}" in said.stderr


@pytest.mark.usefixtures("near")
def test_a_refused_entry_is_reported_as_one_of_the_registry(registry: Path, checkpoint: Path) -> None:
    assert f"tailprune: {registry}, model 'New': " in tailprune("add", "New", checkpoint, *AS_DIT).stderr


def test_without_torch_the_error_names_what_to_install(
    registry: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.cli.models.find_spec", lambda _: None)
    said = tailprune("add", "new", checkpoint, *AS_DIT)
    assert said.exit_code == 1
    assert "install tailprune[worker]" in said.stderr


def test_large_transformers_are_listed_last_with_what_they_lack(registry: Path) -> None:
    entry = {"kind": "transformer", "checkpoint": "hf://owner/flux"}
    extend(registry, {"models": {"flux": entry, "told": entry | {"obtain": "ask"}}})
    said = tailprune("list")
    assert said.exit_code == 0, said.stderr
    lines = [" ".join(line.split()) for line in said.stdout.splitlines()]
    assert lines[3:5] == ["flux large transformer no", "told large transformer no"]
    assert "flux lacks hf://owner/flux: python -m tailprune fetch hf://owner/flux" in lines
    assert "told lacks hf://owner/flux: ask" in lines
    *systems, flux, _ = json.loads(tailprune("list", "--json").stdout)
    assert [model["name"] for model in systems] == ["shapes-sit", "absent-dit"]
    assert (flux["name"], flux["ready"], flux["missing"]) == ("flux", False, ["hf://owner/flux"])


@pytest.mark.parametrize("arguments", [["list"], ["add", "new", "a.pt"], ["fetch", "new"]])
def test_a_registry_that_is_not_there_is_reported(registry: Path, arguments: list[str]) -> None:
    registry.unlink()
    said = tailprune(*arguments)
    assert said.exit_code == 1
    assert f"{registry} does not exist; set TAILPRUNE_REGISTRY" in said.stderr


def rows() -> list[list[str]]:
    """The lines of the list, as words."""
    return [line.split() for line in tailprune("list").stdout.splitlines()]


def test_the_list_says_which_models_are_ready(registry: Path) -> None:
    assert ["shapes-sit", "sit", "yes", "pixels"] in rows()
    assert ["absent-dit", "dit", "no", "latents"] in rows()


def test_the_list_says_which_decoders_are_absent_and_how_great_models_are(registry: Path) -> None:
    add_far(registry, parameters=675129632)
    assert ["far", "dit", "675", "M", "no", "sd-vae:", "absent"] in rows()


@pytest.mark.parametrize(
    ("more", "how"),
    [
        (None, "absent-dit lacks absent-dit/model.safetensors: put it there"),
        ({}, "far lacks hf://owner/far/last.pt: tailprune models fetch far"),
        ({"obtain": "ask [ann], or look at https://a.b"}, "last.pt: ask [ann], or look at https://a.b"),
    ],
)
def test_the_list_says_what_is_missing_and_how_to_have_it(
    registry: Path, more: dict[str, str] | None, how: str
) -> None:
    if more is not None:
        add_far(registry, **more)
    assert f"{how}\n" in tailprune("list").stdout


def test_the_files_of_a_model_and_of_its_decoder_are_fetched(registry: Path, hub: FakeHub) -> None:
    add_far(registry)
    said = tailprune("fetch", "far")
    assert said.exit_code == 0, said.stderr
    entry = Registry.read(registry, Settings().hub_cache).get("far")
    assert (entry.ready, entry.decoding.shown.ready) == (True, True)
    assert said.stdout.splitlines() == [str(entry.local_checkpoint), str(entry.decoding.source)]


def test_of_a_model_that_is_whole_nothing_is_fetched(registry: Path) -> None:
    said = tailprune("fetch", "shapes-sit")
    assert said.exit_code == 0
    assert said.stderr == "nothing to fetch: no file of 'shapes-sit' is on the hub, and all are on this machine\n"


def test_where_files_were_fetched_to_is_printed_as_it_is(
    registry: Path, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_far(registry)
    monkeypatch.setenv("TAILPRUNE_HUB_CACHE", str(tmp_path / "cache [bold]"))
    said = tailprune("fetch", "far")
    assert all(line.startswith(f"{tmp_path}/cache [bold]/") for line in said.stdout.splitlines())


def test_what_cannot_be_fetched_is_refused_with_the_reason(registry: Path, hub: FakeHub) -> None:
    add_far(registry)
    hub.repositories = {}
    said = tailprune("fetch", "far")
    assert said.exit_code == 1
    assert "tailprune: hf://owner/far/last.pt cannot be fetched: 404 Client Error" in said.stderr


def test_a_model_that_has_nothing_on_the_hub_is_not_fetched(registry: Path) -> None:
    said = tailprune("fetch", "absent-dit")
    assert (said.exit_code, said.stdout) == (1, "")
    assert "no file of 'absent-dit' is on the hub: put its files beside the registry" in said.stderr


def test_a_model_that_has_nothing_on_the_hub_is_obtained_as_the_registry_says(registry: Path) -> None:
    extend(registry, {"models": {"absent-dit": {"obtain": "ask Ann"}}})
    assert "no file of 'absent-dit' is on the hub: ask Ann" in tailprune("fetch", "absent-dit").stderr


def test_a_model_that_is_not_registered_is_not_fetched(registry: Path) -> None:
    said = tailprune("fetch", "nothing")
    assert said.exit_code == 1
    assert "no model is named 'nothing'; known models: shapes-sit, absent-dit" in said.stderr


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that are asked of a service, which has one compacted model."""
    asked: list[str] = []
    decoder = {"name": "pixels", "ready": True}
    model = {
        "name": "tiny-compact-0", "title": "Tiny", "family": "sit", "parameters": 1_000_000, "ready": True,
        "missing": [], "obtain": None, "decoder": decoder,
    }  # fmt: skip
    real = httpx.Client

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, json={"models": [model]} if request.url.path.endswith("/models") else model)

    transport = httpx.MockTransport(answer)
    monkeypatch.setattr("httpx.Client", lambda **options: real(**options, transport=transport))
    return asked


def test_with_an_address_the_models_of_the_service_are_listed(registry: Path, served: list[str]) -> None:
    said = tailprune("list", "--url", "http://127.0.0.1:1/prefix/")
    assert said.exit_code == 0, said.output
    assert said.stdout.splitlines()[1].split() == ["tiny-compact-0", "sit", "1", "M", "yes", "pixels"]
    assert served == ["/prefix/models"]


def test_the_address_may_be_in_the_environment(
    registry: Path, served: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAILPRUNE_URL", "http://127.0.0.1:1")
    assert json.loads(tailprune("list", "--json").stdout)[0]["name"] == "tiny-compact-0"
    shown = tailprune("show", "tiny-compact-0").stdout
    assert "parameters  1000000" in shown
    assert served == ["/models", "/models/tiny-compact-0"]


def test_the_json_of_the_registry_has_the_fields_of_the_service(registry: Path) -> None:
    listed = json.loads(tailprune("list", "--json").stdout)[0]
    assert listed.keys() <= ModelSummary.model_fields.keys()
    shown = json.loads(tailprune("show", listed["name"], "--json").stdout)
    assert shown.keys() <= ModelView.model_fields.keys()


@pytest.fixture
def adding(monkeypatch: pytest.MonkeyPatch) -> list[httpx.Request]:
    """The requests that a service is sent which adds every model."""
    asked: list[httpx.Request] = []
    real = httpx.Client

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        body = json.loads(request.content)
        if body["name"] == "taken":
            problem = {"type": "urn:tailprune:problem:model-exists", "title": "A model has this name", "status": 409}
            return httpx.Response(409, json=problem | {"detail": "there is a model 'taken' already"})
        if body["source"] == "none.pt":
            problem = {"type": "urn:tailprune:problem:invalid-request", "title": "Not valid", "status": 422}
            fault = {"location": "body.decoder_source", "message": "vae does not exist"}
            return httpx.Response(422, json=problem | {"detail": "one thing", "errors": [fault]})
        made = {
            "model": {"name": body["name"], "digest": "d"}, "family": "dit", "size": None, "parameters": 10,
            "condition_dim": 4, "latent_shape": [4, 8, 8], "classes": 3, "null_condition": True,
            "assumptions": ["12 attention heads assumed"],
        }  # fmt: skip
        at, now = "/jobs/" + "0" * 26, "2026-01-31T12:00:00Z"
        job = {
            "id": "0" * 26, "kind": "register", "title": "register", "status": "succeeded", "created": now,
            "started": now, "finished": now, "request": body, "result": made, "problem": None, "progress": None,
            "links": {"self": at, "events": f"{at}/events", "artifacts": {}},
        }  # fmt: skip
        return httpx.Response(200, json=job)

    transport = httpx.MockTransport(answer)
    monkeypatch.setattr("httpx.Client", lambda **options: real(**options, transport=transport))
    return asked


def test_with_an_address_a_model_is_added_to_the_service_and_not_to_the_registry(
    registry: Path, adding: list[httpx.Request]
) -> None:
    before = state(registry)
    names = registry.parent / "shapes-sit" / "classes.txt"
    options = ["--key", "ema", "--num-heads", 12, "--class-names", names, "--reference", "photos", "--prompt", "a {}"]
    said = tailprune("add", "new", "runs/new.pt", *options, "--url", "http://127.0.0.1:1/prefix")
    assert said.exit_code == 0, said.output
    assert "12 attention heads assumed" in said.stdout
    assert said.stdout.splitlines()[-1] == "new is served by http://127.0.0.1:1/prefix"
    (request,) = adding
    assert (request.method, request.url.path) == ("POST", "/prefix/models")
    body = json.loads(request.content)
    assert body.pop("class_names") == [f"class {label}" for label in range(100)]
    assert body == {
        "name": "new", "source": "runs/new.pt", "key": "ema", "num_heads": 12, "reference": "photos", "prompt": "a {}",
    }  # fmt: skip
    assert state(registry) == before


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["taken", "a.pt"], "there is a model 'taken' already"),
        (["new", "none.pt", "--decoder-source", "vae"], "--decoder-source: vae does not exist"),
        (["new", "a.pt", "--class-names", "none.txt"], "none.txt cannot be read"),
    ],
)
def test_what_the_service_refuses_is_said_by_option(
    registry: Path, adding: list[httpx.Request], arguments: list[str], why: str
) -> None:
    said = tailprune("add", *arguments, "--url", "http://127.0.0.1:1")
    assert said.exit_code == 1
    assert why in said.stderr
