"""A Hugging Face hub on loopback, and files in a cache folder as huggingface_hub lays them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tailprune.__main__ import main
from tailprune.spec import InputError

COMMIT = "c0ffee" + "0" * 34
ROOT = Path(__file__).parents[1]


def write_cached(
    cache: Path, repo: str, files: Mapping[str, bytes], commit: str = COMMIT, reference: str = "main"
) -> Path:
    """Files of a repository as if they had been fetched; the snapshot's folder."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    for path, content in files.items():
        blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link = folder / "snapshots" / commit / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / reference).write_text(commit)
    return folder / "snapshots" / commit


class FakeHub(ThreadingHTTPServer):
    """Serves repositories at one commit by the routes that huggingface_hub asks, and keeps what was asked."""

    daemon_threads = True

    def __init__(self, repositories: Mapping[str, Mapping[str, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.repositories = repositories
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def fetched(self) -> list[str]:
        """The files whose content was sent."""
        sent = [
            line.partition("/resolve/")[2] for line in self.asked if line.startswith("GET ") and "/resolve/" in line
        ]
        return sorted(path.partition("/")[2] for path in sent)

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Answer(BaseHTTPRequestHandler):
    server: FakeHub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_CONNECT(self) -> None:
        """As a proxy that lets nobody through."""
        self._send(403, b"")

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.server.asked.append(f"{self.command} /{path}")
        is_api = path.startswith("api/models/")
        owner, name, what, _, *rest = [*path.removeprefix("api/models/").split("/"), "", ""]
        files = self.server.repositories.get(f"{owner}/{name}")
        if files is None:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif is_api:
            self._send_json(_tree(files) if what == "tree" else {"id": f"{owner}/{name}", "sha": COMMIT})
        elif (content := files.get("/".join(rest).rstrip("/"))) is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        else:
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            linked = {"X-Linked-Etag": etag, "X-Linked-Size": str(len(content))}
            self._send(200, content, {"ETag": etag, "X-Repo-Commit": COMMIT, **linked})

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def _send_json(self, content: Any) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _tree(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    listed = []
    for path, content in files.items():
        oid, size = hashlib.sha256(content).hexdigest(), len(content)
        lfs = {"oid": oid, "size": size, "pointerSize": 100}
        listed.append({"type": "file", "path": path, "size": size, "oid": oid[:40], "lfs": lfs})
    return listed


def is_about_the_hub(variable: str) -> bool:
    """Whether an environment variable says where the hub is, or whether it is to be asked."""
    return variable.startswith(("HF_", "TAILPRUNE_")) or "proxy" in variable.lower()


def ask_science(*arguments: str, hub: str, cache: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m tailprune ARGUMENTS` in a process of its own, which takes `hub` for the hub."""
    known = {name: value for name, value in os.environ.items() if not is_about_the_hub(name)}
    said = {"HF_ENDPOINT": hub, "HF_HOME": str(cache / "home"), "TAILPRUNE_HUB_CACHE": str(cache)}
    return subprocess.run(
        [sys.executable, "-m", "tailprune", *arguments],
        cwd=ROOT,
        env=known | said | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def answer_here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`jobs.registry.registration.science` in this process, which has torch imported."""

    def science(arguments: list[str], check: Callable[[], None], *, visible: bool = False) -> str:
        check()
        monkeypatch.setattr(sys, "argv", ["tailprune", *arguments])
        said, complained = io.StringIO(), io.StringIO()
        with redirect_stdout(said), redirect_stderr(complained):
            status = main()
        if status:
            raise InputError(complained.getvalue().strip())
        return said.getvalue()

    return science
