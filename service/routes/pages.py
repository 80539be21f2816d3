"""`GET /`: the page where a person starts, and its icon."""

from __future__ import annotations

from string import Template

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from service.deps import PrefixDep
from service.openapi import problem_responses

__all__ = ["router"]

router = APIRouter(tags=["pages"])

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
    responses=problem_responses("invalid-request"),
)
async def get_start_page(prefix: PrefixDep) -> str:
    """Get the start page, which links to the reference."""
    return PAGE.substitute(prefix=prefix)


@router.get("/favicon.ico", include_in_schema=False)
async def icon() -> Response:
    """Get the icon of the pages; browsers ask for it at this path where a page names none, as JSON does not."""
    return Response(ICON, media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})
