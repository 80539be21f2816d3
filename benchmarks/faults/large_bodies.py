"""What a request of 1 MiB costs: `python -m benchmarks.faults.large_bodies`.

Sends each body of `bodies.py`, and uploads that are nonsense, to a service of its own, and prints the status, the bytes
of the answer, the CPU seconds and the resident memory of the service, and the longest time that `/health/live` took to
answer meanwhile.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import threading
import time
import zipfile

import httpx

from benchmarks.faults.bodies import BODIES
from benchmarks.faults.processes import cpu_seconds, service_process
from benchmarks.stacks import stack

MOST_CPU_SECONDS = 0.5
MOST_ANSWER_BYTES = 100_000
MOST_RESIDENT_BYTES = 200 * 10**6


def uploads() -> dict[str, bytes]:
    """Files of conditions that hold very many arrays."""
    names = [f"a{number}" for number in range(18_000)]
    tensors = {name: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for name in names}
    header = json.dumps(tensors, separators=(",", ":")).encode()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as npz:
        for name in names[:9_000]:
            npz.writestr(f"{name}.npy", b"")
    return {
        "safetensors of many arrays": struct.pack("<Q", len(header)) + header,
        "npz of many arrays": archive.getvalue(),
        "npz that is nonsense": b"PK\3\4" + bytes(2**20),
        "safetensors that is nonsense": struct.pack("<Q", 2**20 - 8) + b"{" * (2**20 - 8),
    }


class Prober:
    """Asks `/health/live` again and again, and keeps the longest time that an answer took."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.longest = 0.0

    def __enter__(self) -> Prober:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(trust_env=False, timeout=60) as http:
            while not self._over.wait(0.01):
                began = time.perf_counter()
                http.get(f"{self._url}/health/live")
                self.longest = max(self.longest, time.perf_counter() - began)


def main() -> int:
    """Send everything once; the exit status is 1 if anything is over its bound."""
    sent = {name: (path, body, "application/json") for name, (path, body) in BODIES.items()}
    sent |= {name: ("/conditions", body, "application/octet-stream") for name, body in uploads().items()}
    over = []
    with stack(workers=0) as running, httpx.Client(base_url=running.url, trust_env=False, timeout=60) as http:
        service = service_process(running.url)
        print(f"{'body':36} status   answer B    CPU s   RSS MB   live s")
        for name, (path, body, media_type) in sent.items():
            before = cpu_seconds(service)
            with Prober(running.url) as prober:
                answer = http.post(path, content=body, headers={"Content-Type": media_type})
            seconds = cpu_seconds(service) - before
            resident = service.memory_info().rss
            print(
                f"{name:36} {answer.status_code:6} {len(answer.content):10} {seconds:8.2f} {resident / 1e6:8.0f} "
                f"{prober.longest:8.3f}"
            )
            bounds = (MOST_CPU_SECONDS, MOST_ANSWER_BYTES, MOST_RESIDENT_BYTES)
            if any(value > most for value, most in zip((seconds, len(answer.content), resident), bounds, strict=True)):
                over.append(name)
    print(f"over a bound: {', '.join(over) or 'none'}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
