"""Where files of the Hugging Face hub lie once they were fetched; nothing is fetched here.

A source is `hf://owner/repo[@revision][/path]`; without a path it is the whole repository.
"""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

__all__ = ["cached", "check_source", "is_hub"]

IN_A_FOLDER = ("config.json", "transformer/config.json", "vae/config.json", "model.safetensors")
"""One of these is in every folder that a model or a decoder is made from."""
FILES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".json", ".npz")
"""How the name of a file ends; a name with another ending, as v1.0, is a folder's."""
SOURCE = re.compile(r"hf://(?P<repo>[^/@\s]+/[^/@\s]+)(@(?P<revision>[^/\s]+))?(/(?P<path>[^\s]*[^/\s]))?/?")


def is_hub(source: str) -> bool:
    """Whether a source is on the hub."""
    return source.startswith("hf://")


def check_source(source: str) -> str:
    """The source, as it is. Raises ValueError where it should be on the hub, and names no repository."""
    if is_hub(source) and _parsed(source) is None:
        raise ValueError(f"{source!r} is not of the form hf://owner/repo/file")
    return source


def cached(source: str, cache: Path | None = None) -> Path | None:
    """The local path of a file or folder of the hub; None where it was not fetched.

    cache: the cache folder, huggingface_hub's own unless said.
    """
    match = _parsed(source)
    if match is None:
        return None
    path = match["path"] or ""
    if path.endswith(FILES):
        return _file(match["repo"], path, match["revision"], cache)
    for name in IN_A_FOLDER:
        found = _file(match["repo"], f"{path}/{name}".lstrip("/"), match["revision"], cache)
        if found is not None:
            return found.parents[name.count("/")]
    return None


def _parsed(source: str) -> re.Match[str] | None:
    """The parts of a source on the hub; None where it names none, or goes by `.`, `..` or nothing."""
    match = SOURCE.fullmatch(source)
    if match is None:
        return None
    names = [*match["repo"].split("/"), match["revision"] or "main", *(match["path"] or "main").split("/")]
    return None if any(name in ("", ".", "..") for name in names) else match


def _file(repo: str, path: str, revision: str | None, cache: Path | None) -> Path | None:
    try:
        found = try_to_load_from_cache(repo, path, cache_dir=cache, revision=revision)
    except (ValueError, OSError):  # a name that the hub, or this file system, would not take
        return None
    return Path(found) if isinstance(found, str) else None
