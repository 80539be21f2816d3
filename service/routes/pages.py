"""`GET /`, where a person starts; the pages at `/ui/`, which are files of `service/static`; and their icon."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from string import Template
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from service.deps import AppStateDep, PrefixDep
from service.headers import AcceptHeader, etag_matches, preferred_type
from service.openapi import header, problem_responses

__all__ = ["router", "ui_router"]

router = APIRouter(tags=["pages"])
ui_router = APIRouter(prefix="/ui", include_in_schema=False)

FILES = Path(__file__).parents[1] / "static"
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css"}
SHELL_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>tailprune</title>
<link rel="icon" href="$prefix/favicon.ico" type="image/svg+xml">
<style>
  :root { color-scheme: light dark }
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem }
  code { background: #8882; padding: .1em .3em; border-radius: .2em; overflow-wrap: anywhere }
</style>
</head>
<body>
<main>
<h1>tailprune</h1>
<p>Measures, prunes and samples the condition vectors of diffusion transformers.</p>
<ul>
  <li><a href="$prefix/docs">/docs</a>: the reference, to try out</li>
  <li><a href="$prefix/models">/models</a>: the models that are served</li>
  <li><a href="$prefix/jobs">/jobs</a>: what was asked for</li>
  <li><a href="$prefix/health/ready">/health/ready</a>: whether it runs, and its workers</li>
  <li><a href="$prefix/metrics">/metrics</a>: its numbers, for Prometheus</li>
</ul>
<p>To begin: <code>POST /prune-sample</code> with <code>{"model": "shapes-sit", "threshold": 0.05}</code>.</p>
</main>
</body>
</html>
""")
ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">
<rect width="32" height="32" rx="6" fill="#0072b2"/>
<path d="M6 26V6h4v20zm6 0V12h4v14zm6 0v-8h4v8z" fill="#fff"/>
<path d="M24 26v-3h3v3z" fill="#e69f00"/>
</svg>
"""
"""Sorted magnitudes, of which the tail is marked."""


@router.get(
    "/",
    summary="Get the start page",
    response_description="The page.",
    response_class=HTMLResponse,
    responses={
        307: {
            "description": "For browsers, whose `Accept` names `text/html`: the pages, unless they are turned off.",
            "headers": {"Location": header("The path of the pages.")},
        },
        **problem_responses("invalid-request"),
    },
)
async def get_start_page(prefix: PrefixDep, state: AppStateDep, accept: AcceptHeader = None) -> Response:
    """Get the start page, which links to the reference; a browser is sent to the pages at `/ui/`."""
    if state.settings.ui and preferred_type(accept, ["application/json", "text/html"]) == "text/html":
        return RedirectResponse(f"{prefix}/ui/", headers={"Vary": "Accept"})
    return HTMLResponse(PAGE.substitute(prefix=prefix), headers={"Vary": "Accept"})


@router.get("/favicon.ico", include_in_schema=False)
async def icon() -> Response:
    """Get the icon of the pages; browsers ask for it at this path where a page names none, as JSON does not."""
    return Response(ICON, media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})


@ui_router.get("")
async def redirect_to_pages(prefix: PrefixDep) -> Response:
    """Add the slash, on which the addresses of the pages are built."""
    return RedirectResponse(f"{prefix}/ui/")


@ui_router.get("/static/{version}/{path:path}")
async def get_file(version: str, path: str) -> Response:
    """Get a file of the pages. Its address has the version of all of them, so that browsers need not ask again."""
    files = _files()
    if version != _version() or path not in files:
        raise HTTPException(404, "no such file of the pages in the version that is served now; load the page again")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return Response(files[path], media_type=MEDIA_TYPES[Path(path).suffix], headers=headers)


@ui_router.get("/{path:path}")
async def get_page(
    path: str, prefix: PrefixDep, if_none_match: Annotated[str | None, Header(alias="If-None-Match")] = None
) -> Response:
    """Get the page, which is the same document at every address: `app.js` shows what the address names."""
    page = _page(prefix, _view(path))
    headers = {"ETag": f'"{hashlib.sha256(page).hexdigest()}"', "Cache-Control": "no-cache", **SHELL_HEADERS}
    if etag_matches(headers["ETag"], if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(page, media_type="text/html", headers=headers)


@lru_cache(maxsize=1)
def _files() -> dict[str, bytes]:
    """What a page loads, by its path; read once, so that all files are of one version."""
    found = sorted(path for pattern in ("**/*.js", "**/*.css", "widget/*.js") for path in FILES.glob(pattern))
    return {path.relative_to(FILES).as_posix(): path.read_bytes() for path in found}


@lru_cache(maxsize=1)
def _version() -> str:
    """A digest of the files."""
    digest = hashlib.sha256()
    for path, content in _files().items():
        digest.update(b"%s %d " % (path.encode(), len(content)) + content)
    return digest.hexdigest()[:16]


def _view(path: str) -> str:
    """The module of the view at an address, as `app.js` names them: `models` at models, `model` at models/NAME."""
    first, _, rest = path.strip("/").partition("/")
    return f"views/{first.removesuffix('s') if rest else first or 'models'}.js"


@lru_cache(maxsize=32)
def _page(prefix: str, view: str) -> bytes:
    """The document, which names all modules that a view imports, so that they are fetched in one round trip.

    A view is `views/NAME.js`, and what it alone needs lies in `views/NAME/`.
    """
    static = f"{prefix}/ui/static/{_version()}"
    others = [path for path in _files() if path.startswith("views/") and not path.startswith((view, f"{view[:-3]}/"))]
    modules = [path for path in _files() if path.endswith(".js") and path not in others]
    preloads = "\n".join(f'<link rel="modulepreload" href="{static}/{path}">' for path in modules)
    shell = Template((FILES / "index.html").read_text())
    return shell.substitute(prefix=prefix, static=static, preloads=preloads).encode()
