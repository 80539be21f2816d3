"""docker-compose.yml: valid, and what it promises about data, users, ports and memory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from jobs.settings import Settings
from tests.docker.containers import COMPOSE, DOCKERFILES, NEEDED, ROOT, SERVICES, read_compose

OURS = {name: service for name, service in SERVICES.items() if "build" in service}
PART_OF_THE_FILES = {
    "redis_url",
    "data_dir",
    "registry",
    "hub_cache",
    "device",
    "worker_index",
    "redis_memory_bytes",
    "log_file",
}

each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
each_of_ours = pytest.mark.parametrize("service", OURS.values(), ids=OURS)


def test_it_follows_the_compose_specification() -> None:
    PyCompose.from_yaml(yaml.safe_dump(COMPOSE)).validate()


def test_a_misspelt_key_would_be_noticed() -> None:
    wrong = read_compose()
    wrong["services"]["redis"]["helthcheck"] = wrong["services"]["redis"].pop("healthcheck")
    with pytest.raises(ValueError, match="helthcheck"):
        PyCompose.from_yaml(yaml.safe_dump(wrong))


def _has_compose() -> bool:
    return (
        bool(shutil.which("docker"))
        and not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    )


@pytest.mark.skipif(not _has_compose(), reason="no docker compose here; the specification is checked without")
def test_docker_compose_takes_it() -> None:
    command = ["docker", "compose", "--profile", "gpu", "config", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **NEEDED}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_redis_the_service_and_a_worker_start_and_a_gpu_worker_when_asked_for() -> None:
    profiles = {name: service.get("profiles", []) for name, service in SERVICES.items()}
    assert profiles == {"redis": [], "service": [], "worker": [], "worker-gpu": ["gpu"], "webhooks": ["webhooks"]}


def test_the_gpu_worker_reserves_an_nvidia_device_and_runs_on_it() -> None:
    worker = SERVICES["worker-gpu"]
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert worker["build"]["args"]["BASE"].startswith("nvidia/cuda:")
    assert worker["environment"]["TAILPRUNE_DEVICE"] == "cuda"


@each_service
def test_no_process_is_root_or_can_become_it(service: dict[str, Any]) -> None:
    user = service["user"] if "user" in service else _dockerfile(service).final("USER")
    assert user.split(":")[0] not in ("", "0", "root")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@each_service
def test_every_container_has_a_health_check_a_memory_limit_and_comes_back(service: dict[str, Any]) -> None:
    assert "healthcheck" in service or _dockerfile(service).health_command
    assert _bytes(service["deploy"]["resources"]["limits"]["memory"]) >= 2**30
    assert service["restart"] == "unless-stopped"
    assert "stop_grace_period" in service


@each_service
def test_no_container_takes_all_processes_cores_or_memory_of_the_machine(service: dict[str, Any]) -> None:
    limits = service["deploy"]["resources"]["limits"]
    assert 0 < limits["pids"] <= 2048
    assert "cpus" in limits
    (tmp,) = service["tmpfs"]
    assert re.fullmatch(r"/tmp:size=\d+m,mode=1777", tmp)


def test_service_and_redis_leave_cores_to_the_workers() -> None:
    assert {SERVICES[name]["deploy"]["resources"]["limits"]["cpus"] for name in ("service", "redis")} == {2}


def test_redis_wants_a_password_and_its_arguments_do_not_tell_it() -> None:
    with pytest.raises(AssertionError, match=r"docs/docker\.md"):
        read_compose(REDIS_PASSWORD="")
    redis = SERVICES["redis"]
    assert not any(NEEDED["REDIS_PASSWORD"] in part for part in (*redis["entrypoint"], *redis["command"]))
    assert "requirepass $REDIS_PASSWORD" in redis["entrypoint"][2]


@pytest.mark.parametrize("name", ["redis", "service", "worker", "webhooks", "worker-gpu"])
def test_every_image_can_be_named_by_its_digest(name: str) -> None:
    pinned = "example.org/base@sha256:" + "0" * 64
    service = read_compose(REDIS_IMAGE=pinned, PYTHON_BASE=pinned, CUDA_BASE=pinned)["services"][name]
    assert pinned == (service["build"]["args"]["BASE"] if "build" in service else service["image"])


@each_of_ours
def test_ours_wait_for_redis_to_be_healthy(service: dict[str, Any]) -> None:
    assert service["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert service["environment"]["REDIS_URL"] == f"redis://:{NEEDED['REDIS_PASSWORD']}@redis:6379/0"


@each_of_ours
def test_ours_share_the_data_and_only_read_the_models(service: dict[str, Any]) -> None:
    paths = _dockerfile(service).environment
    models = paths["TAILPRUNE_REGISTRY"].removesuffix("/models.toml")
    assert service["volumes"] == [f"data:{paths['TAILPRUNE_DATA_DIR']}", f"./models:{models}:ro"]


def test_what_outlives_a_container_lies_in_named_volumes() -> None:
    assert set(COMPOSE["volumes"]) == {"data", "redis"}
    assert SERVICES["redis"]["volumes"] == ["redis:/data"]


def test_only_the_service_is_reached_from_outside_and_by_default_from_this_machine_alone() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {"service": ["127.0.0.1:8000:8000"]}
    opened = read_compose(TAILPRUNE_HOST="0.0.0.0", TAILPRUNE_PORT="80")
    assert opened["services"]["service"]["ports"] == ["0.0.0.0:80:8000"]


def test_workers_can_be_scaled() -> None:
    for name in ("worker", "worker-gpu"):
        assert not {"container_name", "hostname", "ports"} & SERVICES[name].keys()


@each_of_ours
def test_every_setting_can_be_set_and_none_is_misspelt(service: dict[str, Any]) -> None:
    aliases = {"BROKER_URL": "broker_url", "REDIS_URL": "redis_url"}
    ours = [name for name in service["environment"] if not name.startswith("OTEL_")]
    named = {aliases.get(name, name.removeprefix("TAILPRUNE_").lower()) for name in ours}
    assert named | PART_OF_THE_FILES == Settings.model_fields.keys() | PART_OF_THE_FILES


@each_of_ours
def test_a_setting_passed_on_is_none_of_the_images(service: dict[str, Any]) -> None:
    # Compose takes a variable without a value out of the image's environment where nobody sets it.
    passed_on = {name for name, value in service["environment"].items() if value is None}
    assert not passed_on & _dockerfile(service).environment.keys()


def test_redis_has_room_above_its_data() -> None:
    command = SERVICES["redis"]["command"]
    data = _bytes(command[command.index("--maxmemory") + 1])
    assert _bytes(SERVICES["redis"]["deploy"]["resources"]["limits"]["memory"]) >= 2 * data


@pytest.mark.parametrize("name", ["worker", "worker-gpu"])
def test_a_worker_has_room_above_its_warm_models(name: str) -> None:
    models = int(SERVICES[name]["environment"]["TAILPRUNE_MODEL_MEMORY_BYTES"])
    assert _bytes(SERVICES[name]["deploy"]["resources"]["limits"]["memory"]) >= 2 * models


def _dockerfile(service: dict[str, Any]) -> Any:
    (dockerfile,) = (d for d in DOCKERFILES.values() if str(d.path) == str(ROOT / service["build"]["dockerfile"]))
    return dockerfile


def _bytes(size: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([kmg])b?", size).groups()  # type: ignore[union-attr]
    return int(number) * 2 ** {"k": 10, "m": 20, "g": 30}[unit]
