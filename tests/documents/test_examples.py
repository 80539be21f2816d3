"""README and docs, followed word for word: their examples run, in order, and answer as the documents print it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from demo import running
from tailprune.systems.dit import DiT, DiTConfig
from tests.documents.examples import Block, blocks_of, commands_of, differences, is_printed, printed_by
from tests.tailprune.decoders.autoencoders import tiny_vae

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ADDRESS = "http://127.0.0.1:8000"
"""The address in the documents; the service of the tests takes its place."""
PROBLEM = "urn:tailprune:problem:"
SEPARATOR = "=== the next command ==="
SECONDS = 240

RUN_ELSEWHERE = {
    "make demo": "tests/end_to_end/test_demo.py, and by the command that runs these tests",
    "make bench": "takes over 25 minutes",
    "docker": "needs a Docker engine; tests/docker",
    "python docker/try_images.py": "builds images, which takes minutes",
    "TORCH_INDEX": "needs a Docker engine; tests/docker",
    "make serve": "the service of this test; tests/end_to_end/test_serve.py",
    "tailprune serve": "the service of this test; tests/end_to_end/test_serve.py",
    "TAILPRUNE_MODEL_FOLDERS": "tests/end_to_end/test_added_models.py",
    "kubectl": "needs a cluster; tests/deploy",
    "export TAILPRUNE_KEY": "tests/service/test_auth.py",
    "python -m service.server": "the service of tests/end_to_end/stack.py",
    "export TAILPRUNE_WEBHOOK_HOSTS": "tests/end_to_end/test_webhooks.py",
    "celery --app workers.webhooks": "tests/end_to_end/test_webhooks.py",
    "from transformers": "fetches weights from the Hugging Face hub",
    "python -m tailprune anatomy hf:": "asks the Hugging Face hub; tests/tailprune/transformers",
    "texts=$(tailprune upload": "needs published weights; tests/end_to_end/test_transformers.py",
    **{
        f"python -m tailprune {command}": f"needs published weights; tests/tailprune/transformers/test_{test}.py"
        for command, test in {
            "compact Qwen-Image": "compact",
            "compact flux1-dev": "original_names",
            "compact MiniMax-H3": "convert",
            "project-lora style": "lora",
        }.items()
    },
    "import torch\nfrom diffusers import QwenImagePipeline": "needs published weights",
    "import tailprune\nfrom diffusers import QwenImagePipeline": "needs published weights",
    "from diffusers import AutoModel": "needs published weights; tests/tailprune/transformers/test_remote_code.py",
    "from tailprune.transformers": "asks the Hugging Face hub; tests/tailprune/transformers",
}
"""Beginnings of blocks that are not run here, and why."""

GIVEN = {
    "from tailprune.decoders": """
import torch
latents = torch.randn(2, 4, 8, 8)
""",
    "np.savez": """
import numpy as np
video = np.ones((4, 32, 512), "float32")
pose, image, latents = np.ones((257, 768)), np.ones((257, 1536)), np.ones((4, 32, 32))
""",
}
"""What a Python block speaks of as the reader's own, by a word in it."""

INTERPRETER = """
import contextlib, io, json, sys, traceback
names = {"__name__": "__main__"}
for line in sys.stdin:
    said, error = io.StringIO(), None
    try:
        with contextlib.redirect_stdout(said):
            exec(json.loads(line), names)
    except BaseException:
        error = traceback.format_exc()
    print(json.dumps([said.getvalue(), error]), flush=True)
"""
"""Runs the code on each line of its input, one block after the other as a notebook does."""


def runs_here(block: Block) -> bool:
    return block.language in ("sh", "python") and not block.text.startswith(tuple(RUN_ELSEWHERE))


class Reader:
    """Who follows a document: in a folder of their own, beside a running service."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=90, trust_env=False)
        self.answer: Any = None
        self._python: subprocess.Popen[str] | None = None
        self._jobs: list[dict[str, Any]] = []
        self._environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "TAILPRUNE_URL": url,
            "COLUMNS": "120",
        }

    def close(self) -> None:
        """End the interpreter."""
        self.http.close()
        if self._python is not None:
            self._python.communicate()

    def run(self, block: Block, refused: bool = False) -> None:
        """Run a block, and see that nothing in it fails; if it is to be `refused`, the answer is a problem."""
        if block.language == "python":
            self._run_python(block.text)
            return
        for said in self._run_shell(block.text):
            if said.startswith("{"):
                answer = json.loads(said)
                self.answer = answer if refused else self._checked(answer)

    def _run_python(self, text: str) -> None:
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, "-c", INTERPRETER],
                cwd=self.folder, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        given = "".join(code for word, code in GIVEN.items() if word in text)
        self._python.stdin.write(json.dumps(given + text.replace(ADDRESS, self.url)) + "\n")
        self._python.stdin.flush()
        said, error = json.loads(self._python.stdout.readline())
        assert error is None, said + error
        for printed in printed_by(text):
            assert any(is_printed(printed, line) for line in said.splitlines()), f"prints {said}, not {printed}"

    def _run_shell(self, text: str) -> list[str]:
        commands = commands_of(text.replace(ADDRESS, self.url))
        script = f"echo\necho '{SEPARATOR}'\n".join(["set -euo pipefail\n", *commands])
        job = {"JOB": self._job(text)} if "$JOB" in text else {}
        said = self._run(["bash", "-c", script], {**self._environment, **job})
        return [part.strip() for part in said.split(SEPARATOR)[1:]]

    def _run(self, command: list[str], environment: dict[str, str]) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=SECONDS
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _job(self, text: str) -> str:
        """The job that `$JOB` of a block is about: one that runs if it is to be cancelled, or the last that fits."""
        if "DELETE" in text:
            body = {"model": "shapes-sit", "threshold": 0.01, "labels": list(range(100)), "steps": 1000}
            return str(self.http.post("/prune-sample", json=body).raise_for_status().json()["id"])
        named = text.partition("/artifacts/")[2].split()
        fitting = [job for job in self._jobs if not named or named[0] in job["links"]["artifacts"]]
        return str(fitting[-1]["id"])

    def _checked(self, answer: dict[str, Any]) -> dict[str, Any]:
        """An answer that is no problem document; that of a job once it has succeeded."""
        assert PROBLEM not in str(answer.get("type")), answer
        if "kind" not in answer:
            return answer
        while answer["status"] in ("queued", "running"):
            path = f"/jobs/{answer['id']}"
            list(self.http.get(f"{path}/events").iter_lines())
            answer = self.http.get(path).json()
        if answer["status"] == "succeeded":
            self._jobs.append(answer)
        return answer


@pytest.fixture(scope="module")
def clone(processes: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The part of a clone that the examples speak of, which they may change."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "models", folder / "models")
    torch.manual_seed(0)
    shape = {"input_size": 8, "patch_size": 2, "in_channels": 4, "hidden_size": 384, "depth": 1, "num_heads": 6}
    system = DiT(DiTConfig(**shape, num_classes=4))
    torch.nn.init.normal_(system.y_embedder.embedding_table.weight)
    tiny_vae().save_pretrained(folder / "decoders" / "sd-vae-ft-ema")
    (folder / "my-dit").mkdir()
    torch.save(system.state_dict(), folder / "my-dit" / "weights.pt")
    request = {"model": "shapes-sit", "prunes": [{"threshold": 0.03}], "steps": 10, "measures": ["drift"]}
    (folder / "request.json").write_text(json.dumps(request))
    return folder


@pytest.fixture(scope="module")
def service(clone: Path) -> Iterator[str]:
    """The URL of a running service."""
    with running(clone / "data", settings={"TAILPRUNE_THREADS": "1"}) as url:
        yield url


@pytest.mark.timeout(900)  # a document may have several studies
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_the_examples_of_a_document_answer_as_printed(document: Path, clone: Path, service: str) -> None:
    blocks = blocks_of(document)
    if not any(map(runs_here, blocks)):
        pytest.skip("has no example that runs here")
    with closing(Reader(clone, service)) as reader:
        for block, before, after in zip(blocks, [None, *blocks], [*blocks[1:], None], strict=False):
            try:
                if runs_here(block):
                    reader.run(block, refused=after is not None and PROBLEM in after.text)
                elif block.language == "json" and before is not None and runs_here(before):
                    # Of a job the document may show the result.
                    answers = [reader.answer, reader.answer.get("result") or {}]
                    wrong = min((differences(block.text, answer) for answer in answers), key=len)
                    assert not wrong, "\n".join(wrong)
            except Exception as error:
                raise AssertionError(f"{document.name}, line {block.line}: {error}") from error


def test_every_block_is_run_here_or_elsewhere() -> None:
    blocks = [block for document in DOCUMENTS for block in blocks_of(document)]
    for beginning in RUN_ELSEWHERE:
        assert any(block.text.startswith(beginning) for block in blocks), f"no block begins with {beginning}"
    assert sum(map(runs_here, blocks)) > 20
    for block in blocks:
        if block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "json":
            json.loads(block.text)
        else:
            assert block.language in ("sh", "python", "", "yaml", "nginx"), block
