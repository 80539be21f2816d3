"""What a notebook, a type checker and an installer see of the package."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import tailprune
from tailprune.decoders import load_decoder
from tailprune.figures.components import draw_histogram
from tailprune.figures.labelled_vectors import LabelledVectors
from tailprune.figures.tsne import draw_tsne, embed
from tailprune.quality import bootstrap, psnr
from tailprune.sampling.sample import Keywords

ROOT = Path(__file__).parents[2]
GIVEN = {"inspect", "load", "load_condition"}
"""What these take besides depends on the family: the fields of its configuration that no tensor shows."""
SCRIPT = """
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

import tailprune
from jobs.results import MetricsResult

system: tailprune.System = tailprune.load("models/shapes-sit")
labels = torch.arange(4)
c: Tensor = system.condition(0.0, {"labels": labels})
description = tailprune.describe(c)
cosine: float = description.cosine.mean
one: Tensor = tailprune.sample(system, {"labels": [1, 2]}, seeds=range(2), steps=10, progress=True)
prune = tailprune.Prune("tail", 0.05)
baseline, pruned = tailprune.sample(system, {"labels": np.arange(4)}, prune=[None, prune], seeds=range(4))
drift: float = ((pruned - baseline).norm() / baseline.norm()).item()
each: list[list[Tensor]] = tailprune.sample_each(system, {"labels": labels}, prunes=[[None]] * 4, seeds=range(4))
removal = tailprune.measure_removal(system, {"labels": labels}, prune, tailprune.sampling_times(system))
tailprune.show({"baseline": baseline, "pruned": pruned}, captions=labels.tolist()).save("compared.png")
small: tailprune.System = tailprune.compact(system, times=torch.zeros(1), inputs={"labels": labels}, keep=8).system
found = tailprune.prune_and_compare("models/shapes-sit", range(4), prune)
share: float = found.removal.fraction


def npr(result: MetricsResult) -> float:
    return result.npr
"""
WRONG = """
import tailprune

tailprune.sample(tailprune.load("x"), {"labels": [1]}, stepz=10)
"""
NOT_CHECKED = [
    f"torch.{name}.*"
    for name in (
        "_dynamo", "_export", "_functorch", "_higher_order_ops", "_inductor", "_refs", "_subclasses", "ao",
        "distributed", "export", "fx", "onnx", "testing",
    )
]  # fmt: skip
"""What of torch has no part in the types of tensors and modules, and takes half of a type checker's time."""


@pytest.mark.parametrize("name", sorted(set(tailprune.__all__) - GIVEN - {"CheckpointError"}))
def test_the_signature_of_every_public_name_lists_its_options(name: str) -> None:
    parameters = inspect.signature(getattr(tailprune, name)).parameters.values()
    assert not [each.name for each in parameters if each.kind is inspect.Parameter.VAR_KEYWORD]


def test_both_ways_to_sample_and_the_type_checker_have_the_same_options() -> None:
    one, each = (dict(inspect.signature(way).parameters) for way in (tailprune.sample, tailprune.sample_each))
    assert (one.pop("prune").default, each.pop("prunes").default) == (None, inspect.Parameter.empty)
    assert {name: (found.default, found.annotation) for name, found in one.items()} == {
        name: (found.default, found.annotation) for name, found in each.items()
    }
    assert list(one) == ["system", "inputs", *Keywords.__annotations__]


@pytest.mark.slow
def test_a_users_script_passes_the_strict_type_checker_and_a_wrong_option_does_not(
    processes: None, tmp_path: Path
) -> None:
    (tmp_path / "right.py").write_text(SCRIPT)
    (tmp_path / "wrong.py").write_text(WRONG)

    (tmp_path / "mypy.ini").write_text(f"[mypy]\n[mypy-{','.join(NOT_CHECKED)}]\nfollow_imports = skip\n")
    options = ("--strict", "--config-file=mypy.ini", "--follow-imports=silent", "--cache-dir=/dev/null")
    mypy = [sys.executable, "-m", "mypy", *options, "right.py", "wrong.py"]
    environment = {"MYPYPATH": str(ROOT), "PATH": ""}
    said = subprocess.run(mypy, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout
    assert "right.py" not in said, said
    assert re.search('^wrong.py:.*"stepz"', said, re.MULTILINE), said
    assert "(checked 2 source files)" in said


def test_the_wheel_tells_type_checkers_that_its_packages_are_typed(processes: None, tmp_path: Path) -> None:
    for folder in ("tailprune", "jobs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, tmp_path)
    build = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert {"tailprune/py.typed", "jobs/py.typed", "jobs/store/lua/claim.lua"} <= set(zipfile.ZipFile(wheel).namelist())


VECTORS = LabelledVectors(
    values=torch.randn(5, 8), model="m", part="c", time=0.0, kind="class", names=[str(n) for n in range(5)]
)
IMAGES = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("missing", "extra", "call"),
    [
        ("matplotlib", "figures", lambda: draw_tsne(VECTORS)),
        ("sklearn", "figures", lambda: embed(np.zeros((5, 8)), 0)),
        ("matplotlib", "figures", lambda: draw_histogram(VECTORS)),
        ("skimage", "quality", lambda: psnr(IMAGES, IMAGES)),
        ("scipy", "quality", lambda: bootstrap(torch.zeros(3))),
        ("diffusers", "decoders", lambda: load_decoder("sd-vae", "somewhere")),
        ("PIL", "science", lambda: tailprune.show(torch.zeros(1, 3, 8, 8))),
        ("torchdiffeq", "science", lambda: tailprune.load),
    ],
)
def test_a_missing_library_is_named_with_the_extra_that_brings_it(
    missing: str, extra: str, call: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(
        ModuleNotFoundError, match=rf"{missing}, which the extra {extra} brings: pip install 'tailprune\["
    ):
        call()
