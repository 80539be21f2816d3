"""`/jobs/{id}/artifacts/{name}`: a job's files, whole or by byte range."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path
from fastapi.responses import Response, StreamingResponse

from jobs.storage.artifacts import CHUNK_BYTES, Artifact, ArtifactStore
from service.deps import AppStateDep, JobDep
from service.headers import IfNoneMatch, Unsatisfiable, byte_range, etag_matches
from service.openapi import NOT_MODIFIED, files, header, problem_responses
from service.problems import ProblemError
from service.sites import POLICY

__all__ = ["chunks_of", "router"]

router = APIRouter(prefix="/jobs", tags=["jobs"])

Name = Annotated[str, Path(description="The name of the artifact, as the job's result and links give it.")]
Range = Annotated[str | None, Header(alias="Range", description="A single range of bytes.", examples=["bytes=0-1023"])]
IfRange = Annotated[
    str | None,
    Header(
        alias="If-Range", description="Send the range only if this is the entity tag; otherwise the whole artifact."
    ),
]

FILES = files(
    "application/octet-stream", "image/png", "image/svg+xml", "audio/wav", "text/csv", "text/markdown",
    "application/json",
)  # fmt: skip
"""All that jobs make."""
_HEADERS = {
    "ETag": header("The SHA-256 digest of the bytes."),
    "Accept-Ranges": header("`bytes`."),
    "Cache-Control": header("Artifacts never change, and may be cached for good."),
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The artifact.", "content": FILES, "headers": _HEADERS},
    206: {
        "description": "A range of the artifact.",
        "content": FILES,
        "headers": {**_HEADERS, "Content-Range": header("The range, and the size of the whole artifact.")},
    },
    304: NOT_MODIFIED,
    **problem_responses(
        "unknown-job", "unknown-artifact", "artifact-gone", "result-gone", "record-unreadable",
        "range-not-satisfiable", "invalid-request", "unavailable",
    ),
}  # fmt: skip


@router.get("/{id}/artifacts/{name}", summary="Download a file", response_class=Response, responses=_RESPONSES)
def get_artifact(
    job: JobDep,
    name: Name,
    state: AppStateDep,
    range: Range = None,
    if_range: IfRange = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Download a file that the job made, whole or a range of it."""
    file = job.artifacts.get(name)
    if file is None:
        has = ", ".join(list(job.artifacts)[:20]) or "none"
        raise ProblemError("unknown-artifact", f"job {job.id} has no artifact {name!r}; it has {has}")
    etag = f'"{file.digest}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "public, max-age=31536000, immutable",
        "Content-Security-Policy": f"{POLICY}; sandbox allow-same-origin",  # an SVG opened by itself runs no scripts
    }
    if etag_matches(etag, if_none_match):
        return Response(status_code=304, headers=headers)
    try:
        part = byte_range(range, file.size) if if_range in (None, etag) else None
    except Unsatisfiable:
        raise ProblemError(
            "range-not-satisfiable",
            f"the range lies outside the {file.size} bytes of {name!r}",
            {"Content-Range": f"bytes */{file.size}"},
        ) from None
    start, stop = part or (0, file.size)
    headers["Content-Length"] = str(stop - start)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size}"
    try:
        chunks = chunks_of(state.store.artifacts, file, start, stop)
    except FileNotFoundError:
        raise ProblemError(
            "artifact-gone", f"{name!r} is no longer stored; post the job's request again to remake it"
        ) from None
    return StreamingResponse(
        chunks, status_code=200 if part is None else 206, headers=headers, media_type=file.media_type
    )


def chunks_of(store: ArtifactStore, file: Artifact, start: int, stop: int) -> Iterator[bytes]:
    """The bytes of a part, of a file that is checked as a whole before. Raises FileNotFoundError."""
    if file.size <= CHUNK_BYTES:
        return iter([store.read(file)[start:stop]])
    return store.stream(file, start, stop)
