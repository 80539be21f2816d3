"""`GET /`: the page where a person starts."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

__all__ = ["router"]

router = APIRouter(tags=["pages"])

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>tailprune</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem }
  code { background: #8882; padding: .1em .3em; border-radius: .2em }
</style>
<h1>tailprune</h1>
<p>Measures, prunes and samples the condition vectors of diffusion transformers.</p>
<ul>
  <li><a href="/docs">/docs</a>: the reference, to try out</li>
  <li><a href="/models">/models</a>: the models that are served</li>
  <li><a href="/jobs">/jobs</a>: what was asked for</li>
  <li><a href="/health/ready">/health/ready</a>: whether it runs, and its workers</li>
  <li><a href="/metrics">/metrics</a>: its numbers, for Prometheus</li>
</ul>
<p>To begin: <code>POST /prune-sample</code> with <code>{"model": "shapes-sit", "threshold": 0.05}</code>.</p>
</html>
"""


@router.get("/", summary="Get the start page", response_description="The page.", response_class=HTMLResponse)
async def get_start_page() -> str:
    """Get the start page, which links to the reference."""
    return PAGE
