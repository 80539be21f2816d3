"""Files of the Hugging Face hub, by their addresses (`tailprune.spec.hub`), from the cache or downloaded into it.

TAILPRUNE_HUB_CACHE names the cache folder (huggingface_hub's own by default); with TAILPRUNE_OFFLINE=1, or
huggingface_hub's HF_HUB_OFFLINE=1, nothing is downloaded.
"""

from __future__ import annotations

import os
from pathlib import Path

from tailprune.spec import MissingFileError
from tailprune.spec.hub import HubFile, check_download, parse
from tailprune.spec.layouts import (
    CONFIG,
    DIFFUSERS_WEIGHTS,
    TENSOR_FILES,
    TRANSFORMER,
    VAE,
    VOCODER,
    WEIGHTS_IN_A_FOLDER,
)

__all__ = ["HubError", "fetch"]

OF_A_REPOSITORY = (
    *(CONFIG, f"{Path(DIFFUSERS_WEIGHTS[0]).stem}*"),
    *(Path(name).stem + form for name in WEIGHTS_IN_A_FOLDER for form in (".*", "-*-of-*")),
    *(f"{folder}/*" for folder in (TRANSFORMER, VAE, VOCODER)),
)
"""The files downloaded for the address of a whole repository: a system, or a decoder in diffusers' layout."""
TRUE = ("1", "true", "yes", "on")


class HubError(MissingFileError):
    """A file of the hub that cannot be fetched; the message gives the reason and the way out."""


def fetch(source: str) -> Path:
    """The local path of a file or folder of the hub, downloaded if it is not in the cache.

    Raises InputError for a source that names no repository, HubError for one that cannot be fetched.
    """
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    wanted = parse(source)
    cache = os.environ.get("TAILPRUNE_HUB_CACHE") or None
    offline = os.environ.get("TAILPRUNE_OFFLINE", "").lower() in TRUE
    try:
        fetched = _file(wanted, cache, offline) if wanted.is_file else _folder(wanted, cache, offline)
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        why = "TAILPRUNE_OFFLINE is set" if offline else "the hub cannot be reached"
        raise HubError(
            f"{wanted} is not in the cache ({cache or 'of huggingface_hub'}), and {why}: fetch it where there is a "
            "network, or give the path of a local copy"
        ) from error
    except (HTTPError, OSError) as error:
        raise HubError(f"{wanted} cannot be fetched: {error}") from error
    for file in [fetched] if fetched.is_file() else sorted(fetched.rglob("*")):
        if file.suffix in TENSOR_FILES and (fault := check_download(file)):
            raise HubError(f"{wanted}: {file.name} {fault}")
    return fetched


def _file(wanted: HubFile, cache: str | None, offline: bool) -> Path:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import LocalEntryNotFoundError

    if not offline:
        return Path(hf_hub_download(wanted.repo, wanted.path, revision=wanted.revision, cache_dir=cache))
    # hf_hub_download(local_files_only=True) may still send a request to the hub
    found = try_to_load_from_cache(wanted.repo, wanted.path, revision=wanted.revision, cache_dir=cache)
    if not isinstance(found, str):
        raise LocalEntryNotFoundError(wanted.path)
    return Path(found)


def _folder(wanted: HubFile, cache: str | None, offline: bool) -> Path:
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
