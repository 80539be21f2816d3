"""How long does the page of a model take to show a move of its threshold?

A DiT of 1,000 classes and 1,152 components, as wide as the published ones, with random weights, beside a shipped model.
Chromium draws without a GPU. A move is a key on the threshold; it is over when the frame with the new numbers, the new
picture and the new curve has been handed to the screen. What the page loads before it can be dragged is counted too.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import tomli_w
import torch
from playwright.sync_api import Browser, sync_playwright
from safetensors.torch import save_file

from benchmarks.report import Section, at_most, not_run, shown
from benchmarks.stacks import stack
from demo import ROOT
from tailprune.systems import DiT
from tailprune.systems.dit import DiTConfig
from tests.pages.browser import OPTIONS, PROGRAMS

SHIPPED = "shapes-sit"
CLASSES, WIDTH = 1000, 1152
MOVES = 60
MOST_MILLISECONDS, MOST_BYTES = 100, 300_000
DRAWN, SMALL = "a move of the threshold, 1,000 x 1,152", f"bytes of the page of {SHIPPED} until it can be dragged"
HEAD = "## A move of the threshold on the page of a model, until it is drawn\n\n"
CONDITION = ("t_embedder.", "y_embedder.")
MOVE = """async (moves) => {
  const grip = document.querySelector("[role=slider][aria-label=Threshold]");
  const painted = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = done;
    channel.port2.postMessage(0);
  })));
  const spent = [];
  for (let move = 0; move < moves; move++) {
    const begun = performance.now();
    const key = move % 20 < 10 ? "PageUp" : "PageDown";
    grip.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    await painted();
    spent.push(performance.now() - begun);
  }
  return spent;
}"""


def run() -> Section:
    """One table: a row for each model."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        marks = {DRAWN: f"at most {MOST_MILLISECONDS} ms", SMALL: f"at most {MOST_BYTES}"}
        return Section(f"{HEAD}Not run: no Chromium.\n", [not_run(*mark, "no Chromium") for mark in marks.items()])
    with tempfile.TemporaryDirectory(prefix="tailprune-benchmark-") as folder, sync_playwright() as playwright:
        registry = write_models(Path(folder))
        browser = playwright.chromium.launch(executable_path=program, args=list(OPTIONS))
        with stack(TAILPRUNE_REGISTRY=str(registry)) as service:
            found = {name: measure(browser, f"{service.url}/ui/models/{name}") for name in (SHIPPED, "wide")}
        browser.close()
    lines = [
        f"{HEAD}Median of {MOVES} moves (least to most), two frames of the screen in each; the service is on this "
        "machine.\n",
        "| model | a move | until it can be dragged | the page and its modules | all that was loaded by then |",
        "|---|---|---|---|---|",
    ]
    for name, (moves, ready, shell, loaded) in found.items():
        lines.append(
            f"| {name} | {shown(moves, lambda value: f'{value:.0f} ms')} | {ready:.2f} s | {shell / 1000:.0f} kB "
            f"| {loaded / 1000:.0f} kB |"
        )
    median = statistics.median(found["wide"][0])
    aims = [
        at_most(DRAWN, median, MOST_MILLISECONDS, " ms"),
        at_most(SMALL, found[SHIPPED][3], MOST_BYTES),
    ]
    return Section("\n".join(lines) + "\n", aims)


def measure(browser: Browser, url: str) -> tuple[list[float], float, int, int]:
    """Milliseconds of each move; seconds, bytes of the page and its modules, and all bytes until it can be dragged."""
    warm = browser.new_page()  # the vectors are extracted, and the answer is kept
    warm.goto(url)
    warm.get_by_text("of all components, over ").wait_for(timeout=120_000)
    warm.close()
    context = browser.new_context()
    page = context.new_page()
    sizes: dict[str, int] = {}

    def note(request: Any) -> None:
        sizes[request.url] = request.sizes()["responseBodySize"]

    page.on("requestfinished", note)
    page.goto(url)
    page.get_by_role("slider", name="Threshold", exact=True).wait_for()
    ready = page.evaluate("performance.now()") / 1000
    loaded = dict(sizes)
    page.get_by_text("of all components, over ").wait_for(timeout=120_000)
    moves = page.evaluate(MOVE, MOVES)
    context.close()
    shell = sum(size for name, size in loaded.items() if "/ui/" in name)
    return moves, ready, shell, sum(loaded.values())


def write_models(folder: Path) -> Path:
    """A registry with a shipped model, and a wide one of which there is the condition alone."""
    torch.manual_seed(0)
    system = DiT(
        DiTConfig(
            input_size=8, patch_size=4, hidden_size=WIDTH, depth=0, num_heads=16, in_channels=4, num_classes=CLASSES
        )
    )
    spread = torch.logspace(-3, 0, WIDTH)[torch.randperm(WIDTH)]  # magnitudes over decades, as trained ones have
    tensors = {name: tensor.clone() for name, tensor in system.state_dict().items() if name.startswith(CONDITION)}
    table = tensors["y_embedder.embedding_table.weight"]
    table.normal_(std=0.1).mul_(spread).add_(spread * torch.randn(WIDTH))
    save_file(tensors, folder / "wide.safetensors")
    shutil.copytree(ROOT / "models" / SHIPPED, folder / SHIPPED)
    shipped = tomllib.loads((ROOT / "models" / "models.toml").read_text())["models"]
    wide = {
        **{name: shipped["shapes-dit"][name] for name in ("family", "num_heads", "latent_shape", "defaults")},
        "licence": "Apache-2.0",
        "title": "A DiT of random weights", "checkpoint": "wide.safetensors", "classes": CLASSES, "decoder": "pixels",
        "condition_dim": WIDTH, "source": "random",
    }  # fmt: skip
    needed = {
        name: value for name, value in shipped[SHIPPED].items() if name not in ("extractor", "classifier", "reference")
    }
    registry = folder / "models.toml"
    registry.write_text(tomli_w.dumps({"models": {SHIPPED: needed, "wide": wide}}))
    return registry
