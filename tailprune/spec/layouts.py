"""The names of files, folders and tensors of checkpoints and decoders, and which files a folder lacks."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = [
    "ADALN",
    "CONFIG",
    "DIFFUSERS_WEIGHTS",
    "IMAGES",
    "LARGE_WEIGHTS",
    "PICKLES",
    "SAFETENSORS",
    "SCHEDULER",
    "SCHEDULER_CONFIG",
    "TENSOR_FILES",
    "TRANSFORMER",
    "VAE",
    "VOCODER",
    "VOCODER_WEIGHTS",
    "WEIGHTS",
    "WEIGHTS_IN_A_FOLDER",
    "files_under",
    "find_diffusers",
    "image_files",
    "in_words",
    "missing_from_checkpoint",
    "missing_from_decoder",
    "missing_from_transformer",
    "weight_files",
]

ADALN = "adaLN_modulation."
"""A part of the names of the tensors of AdaLN, in every family, and of no other tensors."""
SAFETENSORS = ".safetensors"
PICKLES = (".pt", ".pth", ".bin", ".ckpt")
TENSOR_FILES = (SAFETENSORS, *PICKLES)
"""The endings of the names of files of tensors."""
IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff")
"""The endings of the names of image files that are read: those of pytorch-fid, and .gif."""
FORMAT = re.compile("[.][a-z][a-z0-9]{0,9}")
"""The endings that name formats, unlike those of files numbered as `a.0001`."""
NOTES = (".csv", ".html", ".json", ".jsonl", ".md", ".tsv", ".txt", ".xml", ".yaml", ".yml")
"""The endings of the names of files that describe images, and can lie among them."""

WEIGHTS = "model.safetensors"
"""The file of a system's weights in a folder."""
WEIGHTS_IN_A_FOLDER = (WEIGHTS, "pytorch_model.bin")
"""The files of weights that accelerate and the mixins of the hub write, the first that is there counts."""
CONFIG = "config.json"
"""The configuration that diffusers and transformers write beside weights."""
DIFFUSERS_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
LARGE_WEIGHTS = (DIFFUSERS_WEIGHTS[0], WEIGHTS)
"""The files of a large transformer's weights, of which single rows are read: no pickles."""
VOCODER_WEIGHTS = WEIGHTS_IN_A_FOLDER
INDEX = re.compile(r"\.index(\.[^.]+)?\.json")
"""The ending of the index of weights in several files, after one of the names above."""
SHARD = re.compile(r"-(\d+)-of-(\d+)$")
LATER = ("fp16", "bf16", "non_ema")
"""Variants of the same weights that are used only if there is none before."""
TRANSFORMER, VAE, VOCODER = "transformer", "vae", "vocoder"
"""The folders of a diffusers repository, each with a configuration and weights."""
SCHEDULER, SCHEDULER_CONFIG = "scheduler", "scheduler_config.json"
"""The folder of the scheduler in such a repository, and the only file that it needs."""


def weight_files(folder: Path, names: Sequence[str]) -> list[Path]:
    """The files that hold the weights in a folder; some may be missing, and the list is empty if there are none.

    Weights are in one file, or in several that an index lists or that are numbered; diffusers also writes variants,
    such as `diffusion_pytorch_model.fp16.safetensors`, which are used if the file without one is missing.

    folder: the folder
    names: the names of a single file, such as `DIFFUSERS_WEIGHTS`; the first that the folder has counts
    """
    present = sorted(each.name for each in folder.iterdir() if each.is_file()) if folder.is_dir() else []
    for name in names:
        stem, ending = name.rsplit(".", 1)
        single = re.compile(rf"{re.escape(stem)}(\.[^.]+)?\.{ending}")
        index = re.compile(rf"{re.escape(stem)}(\.[^.]+)?\.{ending}{INDEX.pattern}")
        found = [each for each in present if index.fullmatch(each) or (single.fullmatch(each) and "-of-" not in each)]
        if found:
            best = min(found, key=_rank)
            return [folder / part for part in _parts(folder / best)] if INDEX.search(best) else [folder / best]
        numbered = [each for each in present if re.fullmatch(rf"{re.escape(stem)}-\d+-of-\d+\.{ending}", each)]
        if numbered:
            return [folder / each for each in _all_numbered(numbered[0])]
    return []


def find_diffusers(folder: Path) -> Path | None:
    """The folder of the transformer: `folder` itself, or `transformer` in it; None if neither has a configuration."""
    return next((at for at in (folder / TRANSFORMER, folder) if (at / CONFIG).is_file()), None)


def missing_from_checkpoint(path: Path) -> list[str]:
    """The files that the folder of a checkpoint lacks, by their names in it; an empty list for a file."""
    if path.is_file():
        return []
    plain = weight_files(path, WEIGHTS_IN_A_FOLDER)
    if plain:
        return [part.name for part in plain if not part.is_file()]
    within = f"{TRANSFORMER}/" if (path / TRANSFORMER).is_dir() else ""
    if not within and not (path / CONFIG).is_file():
        return [WEIGHTS]
    return _lacks(path, within, DIFFUSERS_WEIGHTS)


def missing_from_transformer(path: Path) -> list[str]:
    """The files that the folder of a large transformer lacks; an empty list for a file."""
    if path.is_file():
        return []
    folder = find_diffusers(path) or path
    files = weight_files(folder, LARGE_WEIGHTS) or [folder / LARGE_WEIGHTS[0]]
    return [str(file.relative_to(path)) for file in files if not file.is_file()]


def missing_from_decoder(name: str, path: Path) -> list[str]:
    """The files that the folder of a decoder of this name lacks; an empty list for a file."""
    if path.is_file():
        return []
    if name == "audioldm":
        return [*_lacks(path, f"{VAE}/", DIFFUSERS_WEIGHTS), *_lacks(path, f"{VOCODER}/", VOCODER_WEIGHTS)]
    return _lacks(path, f"{VAE}/" if (path / VAE).is_dir() else "", DIFFUSERS_WEIGHTS)


def files_under(folder: Path) -> list[Path]:
    """The files under a folder, sorted, without hidden ones and those in hidden folders.

    Links to folders are followed, and each folder is read once. Links to nowhere are among the files.

    Raises OSError for a folder that cannot be read.
    """
    files: list[Path] = []
    read: set[str] = set()
    for here, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        real = os.path.realpath(here)
        if real in read:  # a link leads back to it
            folders.clear()
            continue
        read.add(real)
        files += [Path(here, name) for name in names if not name.startswith(".")]
    return sorted(files)


def image_files(folder: Path) -> tuple[list[Path], dict[str, int]]:
    """The files under a folder with the endings of IMAGES, sorted, and how many others there are, by their endings.

    Of the others, NOTES do not count. The ending is empty where it is none of a format, and for pipes and the like.

    Raises OSError for a folder that cannot be read.
    """
    images: list[Path] = []
    others: Counter[str] = Counter()
    for path in files_under(folder):
        suffix = path.suffix.lower()
        if not path.is_file() and path.exists():
            others[""] += 1
        elif suffix in IMAGES:
            images.append(path)
        elif suffix not in NOTES:
            others[suffix if FORMAT.fullmatch(suffix) else ""] += 1
    return images, dict(others.most_common())


def in_words(kinds: Mapping[str, int]) -> str:
    """Numbers of files by their endings, such as `3 .jp2, 1 .avif`."""
    return ", ".join(f"{count} {suffix or 'of other kinds'}" for suffix, count in kinds.items())


def _raise(error: OSError) -> None:
    raise error


def _lacks(folder: Path, within: str, weights: Sequence[str]) -> list[str]:
    """Which of a configuration and its weights are missing."""
    absent = [] if (folder / within / CONFIG).is_file() else [within + CONFIG]
    parts = weight_files(folder / within, weights)
    return absent + ([within + part.name for part in parts if not part.is_file()] if parts else [within + weights[0]])


def _rank(name: str) -> tuple[int, bool, str]:
    """The order of files of the same weights: the one without a variant first, and an index before one file."""
    variant = re.search(r"\.([^.]+)\.(safetensors|bin)|\.index\.([^.]+)\.json$", name)
    word = variant and (variant[1] or variant[3])
    return (0 if word is None else LATER.index(word) + 2 if word in LATER else 1), not INDEX.search(name), name


def _all_numbered(name: str) -> list[str]:
    """The names of all files of a numbered set, from one of them."""
    stem, ending = name.rsplit(".", 1)
    number = SHARD.search(stem)
    assert number is not None, f"{name} is numbered"
    count, width = int(number[2]), len(number[1])
    return [f"{stem[: number.start()]}-{n:0{width}}-of-{number[2]}.{ending}" for n in range(1, count + 1)]


def _parts(index: Path) -> list[str]:
    """The files of an index, or the index itself if it does not name files, which loading it will report."""
    try:
        parts = set(json.loads(index.read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [index.name]
    if not parts or not all(isinstance(part, str) and Path(part).name for part in parts):
        return [index.name]
    return sorted(Path(part).name for part in parts)
