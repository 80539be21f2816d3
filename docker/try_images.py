"""Build both images without Docker, and run Redis, the service and a worker from them, with a job from end to end.

    python docker/try_images.py [--debian] [--keep] [-- OPTION ...]

--debian  make the base images from Debian's packages, under the names that the Dockerfiles and Compose have for them,
          where no registry of images can be reached
--keep    leave the images
OPTION    goes to `buildah build`, such as --volume or --build-arg

Needs root and, of Debian, buildah, podman and runc, and mmdebstrap for --debian. Users, commands, limits and file
systems are those of docker-compose.yml; the network is one of their own, without a way out. It fails where one of the
three is root, can write to its file system or has a capability, or where the job does not succeed.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.docker.containers import DOCKERFILES, SERVICES, Dockerfile  # noqa: E402

SUITE = "bookworm"
PYTHON = next(line.partition("=")[2] for line in DOCKERFILES["service"].all("ARG") if line.startswith("BASE="))
REDIS = SERVICES["redis"]["image"]
PACKAGES = {PYTHON: "python3,python3-venv,ca-certificates", REDIS: "redis-server,redis-tools"}
WAIT_SECONDS = 120.0
JOB = """
import json, sys
from urllib.request import Request, urlopen
base = "http://127.0.0.1:8000"
body = {"model": "shapes-sit", "threshold": 0.03, "labels": [0, 1], "steps": 10}
headers = {"Content-Type": "application/json", "Prefer": "wait=60"}
job = json.load(urlopen(Request(f"{base}/prune-sample", json.dumps(body).encode(), headers)))
assert job["status"] == "succeeded", job
grid = urlopen(base + job["links"]["artifacts"]["grid.png"]).read()
assert grid.startswith(b"\\x89PNG"), grid[:20]
print(f"job {job['id']}: {job['title']}, {job['status']}; grid.png has {len(grid)} bytes")
"""


def main() -> None:
    """Build, run, and say what was seen."""
    given = sys.argv[1:]
    end = given.index("--") if "--" in given else len(given)
    own, others = given[:end], given[end + 1 :]
    with tempfile.TemporaryDirectory(prefix="tailprune-images-") as folder:
        if "--debian" in own:
            for image, packages in PACKAGES.items():
                make_base(image, packages, Path(folder))
        for name, dockerfile in DOCKERFILES.items():
            build(name, dockerfile, others)
    containers = Containers()
    try:
        containers.start()
        containers.check()
    finally:
        containers.remove()
        if "--keep" not in own:
            run("podman", "rmi", *(f"tailprune-{name}" for name in DOCKERFILES))


def make_base(image: str, packages: str, folder: Path) -> None:
    """Make a base image from Debian's packages, without what Debian's own image for containers leaves out."""
    archive = folder / "base.tar"
    less = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("man", "info", "locale", "doc")]
    merged = ["--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", f"--include={packages},usr-is-merged"]
    run("mmdebstrap", "--variant=minbase", *merged, *less, SUITE, str(archive))
    path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    run("podman", "import", "--change", path, str(archive), f"docker.io/library/{image}")


def build(name: str, dockerfile: Dockerfile, options: list[str]) -> None:
    """Build an image by the steps of its Dockerfile."""
    command = ["buildah", "build", "--isolation", "chroot", "--format", "docker", "--pull-never", "--layers"]
    run(*command, *options, "--file", str(dockerfile.path), "--tag", f"tailprune-{name}", str(ROOT))
    (size,) = json.loads(output("podman", "image", "inspect", f"tailprune-{name}", "--format", "[{{.Size}}]"))
    print(f"tailprune-{name}: {size / 1e6:.0f} MB", flush=True)


class Containers:
    """Redis, the service and a worker, as in the Compose file, in one network of their own."""

    def __init__(self) -> None:
        self.name = f"tailprune-try-{os.getpid()}"
        self.started: list[str] = []

    def start(self) -> None:
        """Start the three, and return when they are healthy."""
        for service in ("redis", "service", "worker"):
            self._run(service, SERVICES[service])
        healthy = {"redis": SERVICES["redis"]["healthcheck"]["test"][1:]}
        healthy["redis"] = ["sh", "-c", *healthy["redis"]]
        healthy |= {name: dockerfile.health_command for name, dockerfile in DOCKERFILES.items()}
        for service, command in healthy.items():
            deadline = time.monotonic() + WAIT_SECONDS
            while (done := self._exec(service, *command)).returncode:
                assert time.monotonic() < deadline, f"{service} is not healthy: {done.stderr}\n{self._log(service)}"
                time.sleep(0.5)
            print(f"{service} is healthy", flush=True)

    def check(self) -> None:
        """What no one of them may do, and a job through all of them."""
        for service in self.started:
            user = self._exec(service, "id", "-u").stdout.strip()
            assert user not in ("", "0"), f"{service} runs as user {user!r}"
            wrote = self._exec(service, "touch", "/opt/written")
            assert "Read-only file system" in wrote.stderr, f"{service} can write to its file system: {wrote.stderr}"
            status = self._exec(service, "cat", "/proc/self/status").stdout
            assert "CapEff:\t0000000000000000" in status, f"{service} has capabilities"
            assert "NoNewPrivs:\t1" in status, f"{service} may gain privileges"
            print(f"{service}: user {user}, read-only, no capabilities", flush=True)
        done = self._exec("service", "python", "-c", JOB)
        assert done.returncode == 0, f"{done.stderr}\n{self._log('service')}\n{self._log('worker')}"
        print(done.stdout.strip())

    def remove(self) -> None:
        """End and delete them, and their data."""
        for service in reversed(self.started):
            run("podman", "rm", "--force", "--time", "5", f"{self.name}-{service}")
        run("podman", "volume", "rm", "--force", f"{self.name}-data", f"{self.name}-redis")

    def _run(self, service: str, described: dict[str, Any]) -> None:
        limits = described["deploy"]["resources"]["limits"]
        open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        options = [
            "--read-only",
            "--cap-drop=all",
            "--security-opt=no-new-privileges",
            f"--pids-limit={limits['pids']}",
        ]
        options += [
            f"--memory={limits['memory']}",
            f"--ulimit=nofile={open_files}:{open_files}",
            "--ulimit=nproc=4096:4096",
        ]
        options += [f"--tmpfs={mount}" for mount in described["tmpfs"]]
        options += ["--network=none" if service == "redis" else f"--network=container:{self.name}-redis"]
        if limits["cpus"]:
            options.append(f"--cpus={min(limits['cpus'], os.cpu_count() or 1)}")
        for volume in described["volumes"]:
            source, _, rest = volume.partition(":")
            place = str(ROOT / source) if source.startswith(".") else f"{self.name}-{source}"
            options.append(f"--volume={place}:{rest}")
        variables = {name: value for name, value in described["environment"].items() if value is not None}
        if service == "redis":
            options += [f"--user={described['user']}", "--workdir=/data"]
            variables["REDIS_PASSWORD"] = described["environment"]["REDISCLI_AUTH"]
        else:  # what is open is open to this network alone
            at_redis = variables["REDIS_URL"].replace("@redis:", "@127.0.0.1:")
            variables |= {"TAILPRUNE_OPEN": "true", "REDIS_URL": at_redis}
        options += [f"--env={name}={value}" for name, value in variables.items()]
        if entrypoint := described.get("entrypoint"):
            options.append(f"--entrypoint={json.dumps(entrypoint)}")
        image = described["image"]
        runtime = ["--runtime=runc", "--cgroup-manager=cgroupfs"]
        run(
            "podman",
            *runtime,
            "run",
            "--detach",
            f"--name={self.name}-{service}",
            *options,
            image,
            *described.get("command", []),
        )
        self.started.append(service)

    def _exec(self, service: str, *command: str) -> subprocess.CompletedProcess[str]:
        whole = ["podman", "--runtime=runc", "--cgroup-manager=cgroupfs", "exec", f"{self.name}-{service}", *command]
        return subprocess.run(whole, capture_output=True, text=True)

    def _log(self, service: str) -> str:
        done = subprocess.run(["podman", "logs", f"{self.name}-{service}"], capture_output=True, text=True)
        return f"{done.stdout}\n{done.stderr}"


def run(*command: str) -> None:
    """Run a command that has to succeed."""
    subprocess.run(command, check=True)


def output(*command: str) -> str:
    """What a command that has to succeed prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
