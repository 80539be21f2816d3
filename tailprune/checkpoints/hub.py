"""Files of the Hugging Face hub, by their addresses (`tailprune.spec.hub`), from the cache or downloaded into it.

TAILPRUNE_HUB_CACHE names the cache folder (huggingface_hub's own by default); with TAILPRUNE_OFFLINE=1, or
huggingface_hub's HF_HUB_OFFLINE=1, nothing is downloaded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailprune.spec import InputError, MissingFileError
from tailprune.spec.hub import HubFile, check_download, parse
from tailprune.spec.layouts import (
    CONFIG,
    DIFFUSERS_WEIGHTS,
    SCHEDULER,
    TENSOR_FILES,
    TRANSFORMER,
    VAE,
    VOCODER,
    WEIGHTS,
    WEIGHTS_IN_A_FOLDER,
)
from tailprune.spec.safetensors import Header, StoredTensor, check_layout, stored_tensor

__all__ = ["Headers", "HubError", "cache_folder", "fetch", "is_offline", "read_headers"]

OF_A_REPOSITORY = (
    *(CONFIG, f"{Path(DIFFUSERS_WEIGHTS[0]).stem}*"),
    *(Path(name).stem + form for name in WEIGHTS_IN_A_FOLDER for form in (".*", "-*-of-*")),
    *(f"{folder}/*" for folder in (TRANSFORMER, SCHEDULER, VAE, VOCODER)),
)
"""The files downloaded for the address of a whole repository: a system, or a decoder in diffusers' layout."""
SAFETENSORS_NAMES = (DIFFUSERS_WEIGHTS[0], WEIGHTS)
TRUE = ("1", "true", "yes", "on")


class HubError(MissingFileError):
    """A file of the hub that cannot be fetched; the message gives the reason and the way out."""


def fetch(source: str) -> Path:
    """The local path of a file or folder of the hub, downloaded if it is not in the cache.

    Raises InputError for a source that names no repository, HubError for one that cannot be fetched.
    """
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    wanted = parse(source)
    cache, offline = cache_folder(), is_offline()
    try:
        fetched = _file(wanted, cache, offline) if wanted.is_file else _folder(wanted, cache, offline)
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise _not_cached(wanted) from error
    except (HTTPError, OSError) as error:
        raise HubError(f"{wanted} cannot be fetched: {error}") from error
    for file in [fetched] if fetched.is_file() else sorted(fetched.rglob("*")):
        if file.suffix in TENSOR_FILES and (fault := check_download(file)):
            raise HubError(f"{wanted}: {file.name} {fault}")
    return fetched


@dataclass(frozen=True)
class Headers:
    """What a repository says of a transformer, without its weights."""

    config: dict[str, Any]
    """The configuration; empty if there is none."""
    tensors: dict[str, StoredTensor]
    """Types and shapes; the places are those in each file's data."""


def read_headers(source: str) -> Headers:
    """The configuration and the headers of the weights of a transformer on the hub, some hundred kilobytes.

    source: a safetensors file, or a folder in diffusers' layout, the transformer's or one with `transformer/`

    Raises InputError for a source that names no repository, or headers that are none; HubError for one that cannot be
    looked at; MissingFileError for a folder without weights.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled, SafetensorsParsingError

    wanted = parse(source)
    if is_offline():
        raise _not_cached(wanted)
    api = HfApi()

    def json_of(path: str) -> dict[str, Any]:
        file = Path(api.hf_hub_download(wanted.repo, path, revision=wanted.revision, cache_dir=cache_folder()))
        try:
            found = json.loads(file.read_text())
        except (ValueError, RecursionError) as error:
            raise InputError(f"{wanted}: {path} is not JSON ({error})") from error
        if not isinstance(found, dict):
            raise InputError(f"{wanted}: {path} is not a JSON object")
        return found

    try:
        present = set(api.list_repo_files(wanted.repo, revision=wanted.revision))
        folder = wanted.path.rpartition("/")[0] if wanted.is_file else wanted.path
        inner = _in(folder, TRANSFORMER)
        if not wanted.is_file and _in(inner, CONFIG) in present:
            folder = inner
        config = json_of(_in(folder, CONFIG)) if _in(folder, CONFIG) in present else {}
        files = [wanted.path] if wanted.is_file else _weights_among(present, folder, json_of)
        if not files:
            raise MissingFileError(f"{wanted} has no {' or '.join(SAFETENSORS_NAMES)}, and no index of one")
        tensors: dict[str, StoredTensor] = {}
        for path in files:
            found = api.parse_safetensors_file_metadata(wanted.repo, path, revision=wanted.revision).tensors
            header = {
                name: stored_tensor(
                    name,
                    {"dtype": each.dtype, "shape": list(each.shape), "data_offsets": list(each.data_offsets)},
                    0,
                )
                for name, each in found.items()
            }
            check_layout(Header(header, None, 0))
            tensors |= header
    except (LookupError, TypeError, AttributeError, SafetensorsParsingError) as error:
        raise InputError(f"{wanted}: a header or index is damaged ({error})") from error
    except OfflineModeIsEnabled as error:
        raise _not_cached(wanted) from error
    except MissingFileError:
        raise
    except (HTTPError, OSError) as error:
        raise HubError(f"{wanted} cannot be looked at: {error}") from error
    return Headers(config, tensors)


def cache_folder() -> Path | None:
    """The folder of the cache; None for huggingface_hub's own."""
    named = os.environ.get("TAILPRUNE_HUB_CACHE")
    return Path(named) if named else None


def is_offline() -> bool:
    """Whether nothing may be downloaded."""
    return os.environ.get("TAILPRUNE_OFFLINE", "").lower() in TRUE


def _not_cached(wanted: HubFile) -> HubError:
    why = "TAILPRUNE_OFFLINE is set" if is_offline() else "the hub cannot be reached"
    return HubError(
        f"{wanted} is not in the cache ({cache_folder() or 'of huggingface_hub'}), and {why}: fetch it where there is "
        "a network, or give the path of a local copy"
    )


def _in(folder: str, name: str) -> str:
    return f"{folder}/{name}".lstrip("/")


def _weights_among(present: set[str], folder: str, json_of: Callable[[str], dict[str, Any]]) -> list[str]:
    """The files of weights in a folder of a repository, by its index if it has one."""
    for name in SAFETENSORS_NAMES:
        path = _in(folder, name)
        if path in present:
            return [path]
        if (index := f"{path}.index.json") in present:
            return [_in(folder, shard) for shard in sorted(set(json_of(index)["weight_map"].values()))]
    return []


def _file(wanted: HubFile, cache: Path | None, offline: bool) -> Path:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import LocalEntryNotFoundError

    if not offline:
        return Path(hf_hub_download(wanted.repo, wanted.path, revision=wanted.revision, cache_dir=cache))
    # hf_hub_download(local_files_only=True) may still send a request to the hub
    found = try_to_load_from_cache(wanted.repo, wanted.path, revision=wanted.revision, cache_dir=cache)
    if not isinstance(found, str):
        raise LocalEntryNotFoundError(wanted.path)
    return Path(found)


def _folder(wanted: HubFile, cache: Path | None, offline: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    patterns = [f"{wanted.path}/*"] if wanted.path else list(OF_A_REPOSITORY)
    snapshot = Path(
        snapshot_download(
            wanted.repo,
            revision=wanted.revision,
            cache_dir=cache,
            local_files_only=offline,
            allow_patterns=patterns,
        )
    )
    if not any(True for pattern in patterns for _ in snapshot.glob(pattern)):  # snapshot_download raises no error
        if offline:
            raise LocalEntryNotFoundError(wanted.path)
        raise MissingFileError(f"it has no {' or '.join(patterns)}")
    return snapshot / wanted.path
