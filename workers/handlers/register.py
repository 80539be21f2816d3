"""The job `register`: a checkpoint is fetched, inspected and checked, and only then added to the models."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobs.registry import registration
from jobs.registry.added import Added
from jobs.registry.digests import weights_digest
from jobs.registry.document import faults_of
from jobs.registry.models import ModelEntry
from jobs.requests.register import RegisterRequest
from jobs.results import ModelUsed, RegisterResult
from tailprune.spec import InputError, MissingFileError
from tailprune.spec.hub import is_hub
from workers.handler import Context
from workers.lease import Product, Run

__all__ = ["handler"]

UNIT = "files"


class RegisterHandler:
    """Adds models. No weights stay in memory: another process reads them."""

    request = RegisterRequest

    def handle(self, run: Run, request: RegisterRequest, source: None, context: Context) -> Product[RegisterResult]:
        """Add a model as a resolved request describes it, whose record all processes look up.

        Raises InputError for files that are missing or cannot be used, and where the name was taken meanwhile.
        """
        given = request.model_dump()
        path = _obtained(run, request, context)
        run.phase = "checking"
        found = _inspected(run, request, path, given)
        record = Added(
            table=registration.entry_table(found, given, str),
            folder=_folder_of(request, context),
            created=datetime.now(UTC),
            key=run.job.key,
        )
        entry = _entry(request, record, context)
        digest = weights_digest("model", entry, context.settings.data_dir)
        if _state(path) != found["state"]:
            raise InputError(
                f"{request.source} was written to while it was read: post the request again when it is whole"
            )
        run.check()
        run.retry(lambda: context.catalogue.add(request.name, record))
        return Product(
            RegisterResult(
                model=ModelUsed(name=request.name, digest=digest),
                family=found["family"],
                size=found["size"],
                parameters=found["parameters"],
                condition_dim=found["condition_dim"],
                latent_shape=found["latent_shape"],
                classes=found["classes"],
                null_condition=found["null_condition"],
                assumptions=list(registration.assumptions(found, given)),
            )
        )


def _obtained(run: Run, request: RegisterRequest, context: Context) -> Path:
    """The path of the checkpoint, once all files are on this machine."""
    folders = context.catalogue.folders
    wanted = {
        name: source
        for name in ("source", "decoder_source", "decoder_statistics")
        if (source := getattr(request, name)) is not None
    }
    paths: dict[str, Path] = {}
    for done, (name, source) in enumerate(wanted.items()):
        run.phase = "fetching" if is_hub(source) else "checking"
        run.step(done, len(wanted) + 1, UNIT)
        try:
            paths[name] = Path(registration.fetch(source, run.check)) if is_hub(source) else folders.find(source)
        except MissingFileError as error:
            raise MissingFileError(
                f"{name}: {source} is not on this worker's machine: its folder has to be at the same place on the "
                f"machines of the service and of all workers ({error})"
            ) from error
        except InputError as error:
            raise InputError(f"{name}: {error}" if is_hub(source) else f"{name}: {source} {error}") from error
    run.step(len(wanted), len(wanted) + 1, UNIT)
    return paths["source"]


def _inspected(run: Run, request: RegisterRequest, path: Path, given: dict[str, Any]) -> dict[str, Any]:
    """The description of the checkpoint, and the `state` of its file when that began."""
    state = _state(path)
    try:
        return {**registration.inspect(str(path), given, run.check), "state": state}
    except InputError as error:
        raise InputError(str(error).replace(str(path), request.source)) from error


def _folder_of(request: RegisterRequest, context: Context) -> Path:
    if is_hub(request.source):
        return context.settings.registry.parent.absolute()
    return context.catalogue.folders.of_path(Path(request.source))


def _entry(request: RegisterRequest, record: Added, context: Context) -> ModelEntry:
    """The model that the record is of. Raises InputError for what the request and the checkpoint make no model of."""
    try:
        entry = record.entry(request.name, context.catalogue.folders, context.settings.hub_cache)
    except ValidationError as error:
        raise InputError(faults_of(error)) from error
    if entry.missing:
        raise MissingFileError(f"{request.name} would lack {', '.join(entry.missing)}")
    return entry


def _state(path: Path) -> list[tuple[str, int, int]]:
    """What changes when a file is written to, or any file of a folder."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    stats = [(str(file), file.stat()) for file in files if file.is_file()]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


handler = RegisterHandler()
