"""The job `compact-transformer`: a large transformer with a smaller AdaLN, written file by file and stored.

The files are written in a folder of the job's key among those that are being written. An attempt that is interrupted
leaves what it has finished there, and the next one on the same machine goes on with it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from jobs.anatomy_results import TransformerUsed
from jobs.compact_transformer_results import CompactTransformerResult, CompactTransformerTiming
from jobs.registry.transformers import TransformerEntry
from jobs.requests.compact_transformer import CompactTransformerRequest
from jobs.requests.fields import as_list
from jobs.results import Change
from jobs.storage.artifacts import Artifact
from jobs.storage.files import INCOMING, translated_errors
from tailprune.spec import InputError
from tailprune.transformers import Written, compact
from workers.handler import Context, Timer, transformer_of
from workers.lease import Cancelled, Product, Run

__all__ = ["handler"]

CARD, ACCOUNT = "README.md", "compaction.json"
MEDIA_TYPES = {".json": "application/json", ".md": "text/markdown; charset=utf-8"}
"""By the ending of a file; others are application/octet-stream."""


class CompactTransformerHandler:
    """Makes compacted large transformers. Nothing of them stays in memory."""

    request = CompactTransformerRequest

    def handle(
        self, run: Run, request: CompactTransformerRequest, source: None, context: Context
    ) -> Product[CompactTransformerResult]:
        """Compact the large transformer of a resolved request, and store the files of its folder.

        Raises InputError for files that are missing, that cannot be used, or that were written to meanwhile, and for a
        result that would be no smaller or is off by more than the error that is asked for.
        """
        entry, digest = transformer_of(run.job, request, context)
        timer, data = Timer(), context.settings.data_dir.absolute()
        work = data / INCOMING / f"compact-{run.job.key}"
        try:
            run.phase = "compacting"
            with timer.measure("compact"):
                written = _compacted(request, entry, work / "model", run)
            if entry.files_digest != digest:
                raise InputError(f"the files of {entry.name!r} were written to while they were read: ask again")
            run.phase = "storing"
            with timer.measure("store"):
                artifacts = _stored(work / "model", written, run, context)
        except (Cancelled, InputError) as error:  # it is not gone on with
            shutil.rmtree(work, ignore_errors=True)
            if isinstance(error, Cancelled):
                raise
            raise InputError(entry.place_of(str(error)).replace(str(data), "TAILPRUNE_DATA_DIR")) from error
        shutil.rmtree(work, ignore_errors=True)
        timing = CompactTransformerTiming(queue=run.job.queue_seconds, **timer.seconds)
        return Product(
            _result(TransformerUsed(name=entry.name, files_digest=digest), written, artifacts, timing), artifacts
        )


def _compacted(request: CompactTransformerRequest, entry: TransformerEntry, out: Path, run: Run) -> Written:
    """Write the folder of a compacted model, from files of this machine alone."""
    path = entry.local_checkpoint
    assert path is not None, "its digest was computed"
    with translated_errors(str(out.parent), writes=True):
        out.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out, ignore_errors=True)  # of an attempt that was interrupted while its files were stored
    try:
        return compact(
            path,
            out,
            steps=request.steps,
            scheduler=entry.scheduler if request.scheduler == "own" else None,
            resolutions=[(width, height) for width, height in request.resolutions or []],
            times=None if request.times is None else torch.tensor(request.times),
            rank=request.rank,
            error=request.error,
            guidance=None if request.guidance is None else as_list(request.guidance),
            pooled=request.pooled,
            classes=request.classes,
            on_bytes=lambda done, total: run.step(done, total, "bytes"),
        )
    except ModuleNotFoundError as error:  # of diffusers, which makes the times of schedulers
        raise InputError(f"this worker cannot make the times of a scheduler: {error}; or give times") from error


def _stored(folder: Path, written: Written, run: Run, context: Context) -> dict[str, Artifact]:
    """Store all files of a folder. Raises InputError for one that is not as it was written."""
    paths = sorted(folder.iterdir())
    stored = {}
    for done, path in enumerate(paths):
        run.step(done, len(paths), "files")
        media_type = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
        artifact = context.artifacts.put_file(path, media_type)
        if written.files.get(path.name, artifact.digest) != artifact.digest:
            raise InputError(f"{path} changed after it was written: post the request again")
        stored[path.name] = artifact
    run.step(len(paths), len(paths), "files")
    return stored


def _result(
    model: TransformerUsed, written: Written, artifacts: dict[str, Artifact], timing: CompactTransformerTiming
) -> CompactTransformerResult:
    before_and_after = {
        name: Change(before=before, after=after)
        for name in ("parameters", "adaln_parameters", "bytes")
        for before, after in [getattr(written, name)]
    }
    return CompactTransformerResult(
        model=model,
        name=written.name,
        rank=written.rank,
        covers=written.covers,
        error=written.error,
        worst_error=written.worst_error,
        error_between=written.error_between,
        **before_and_after,
        dtype=written.dtype,
        read_dtypes=list(written.read_dtypes),
        sources=written.sources,
        files={name: artifact.digest for name, artifact in artifacts.items()},
        card=CARD,
        account=ACCOUNT,
        timing=timing,
    )


handler = CompactTransformerHandler()
