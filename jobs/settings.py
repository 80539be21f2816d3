"""Every setting of the service and its workers, read from the environment.

The variable `TAILPRUNE_<NAME>` sets a field; `REDIS_URL` and `BROKER_URL` work under these names too. An empty variable
counts as not set.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from jobs.urls import check_artifacts, check_broker, check_redis, kombu_url, masked
from tailprune.spec.registry import registry_path

__all__ = ["Settings", "SettingsError", "as_prefix", "get_settings", "unknown_variables"]

OF_OTHERS = ("TAILPRUNE_URL", "TAILPRUNE_OFFLINE")
"""Variables that the command line and the library read."""

KIB, MIB, GIB = 2**10, 2**20, 2**30


def as_prefix(path: str) -> str:
    """A path with a slash at its beginning and none at its end; empty for the root."""
    return f"/{path.strip('/')}".rstrip("/")


def _from_home(path: Path) -> Path:
    """A path whose ~ is the home folder: files of variables are read by no shell."""
    return Path(os.path.expanduser(path))


LocalPath = Annotated[Path, AfterValidator(_from_home)]


class Settings(BaseSettings):
    """All settings; the processes of one deployment share the same environment."""

    model_config = SettingsConfigDict(
        env_prefix="TAILPRUNE_",
        env_ignore_empty=True,
        frozen=True,
        populate_by_name=True,
        extra="ignore",
        str_strip_whitespace=True,  # as a URL may have that was read from a file
        hide_input_in_errors=True,  # a URL may have a password, and so the fields of URLs are in no repr either
    )

    redis_url: Annotated[str, AfterValidator(check_redis)] = Field(
        default="redis://127.0.0.1:6379/0",
        repr=False,
        validation_alias=AliasChoices("TAILPRUNE_REDIS_URL", "REDIS_URL"),
        description="The Redis server of job records, events and cache, and the broker if broker_url is not set.",
    )
    broker_url: Annotated[str, AfterValidator(check_broker)] | None = Field(
        default=None,
        repr=False,
        validation_alias=AliasChoices("TAILPRUNE_BROKER_URL", "BROKER_URL"),
        description="Any broker that Celery supports; redis_url by default.",
    )
    data_dir: LocalPath = Field(
        default=Path("data"), description="The folder of artifacts and small caches; it can be moved as a whole."
    )
    artifacts_url: Annotated[str, AfterValidator(check_artifacts)] | None = Field(
        default=None,
        repr=False,
        description="Where artifacts are stored, as an fsspec URL; a folder of data_dir by default.",
    )
    registry: LocalPath = Field(
        default_factory=registry_path,
        description="The registry of models; by default models/models.toml, or else the shipped one.",
    )
    root_path: Annotated[str, AfterValidator(as_prefix)] = Field(
        default="",
        description="The prefix under which a proxy publishes the service, such as /tailprune.",
    )
    hub_cache: LocalPath | None = Field(
        default=None,
        description="Where files of the Hugging Face hub are stored; by default huggingface_hub's own cache.",
    )

    max_body_bytes: int = Field(
        default=MIB, gt=0, description="Largest request body in bytes, except for POST /conditions."
    )
    max_conditions_bytes: int = Field(
        default=256 * MIB, gt=0, description="Largest file of conditions in bytes: as sent, unpacked, and as float32."
    )
    max_conditions: int = Field(default=1024, gt=0, description="Most conditions in one file.")
    max_samples: int = Field(default=256, gt=0, description="Most samples of one job: labels x samples_per_label.")
    max_variants: int = Field(default=16, gt=0, description="Most prunes of one job.")
    max_study_samples: int = Field(default=100_000, gt=0, description="Most samples of one variant of a study.")
    max_study_variants: int = Field(default=64, gt=0, description="Most prunes of one study.")
    max_steps: int = Field(default=1000, gt=1, description="Most sampling steps.")
    max_extract_bytes: int = Field(
        default=GIB, gt=0, description="Most bytes of the vectors of one job: timesteps x inputs x components x 4."
    )
    max_wait_seconds: float = Field(
        default=60.0, ge=0, description="Longest wait in seconds that is granted to `Prefer: wait`."
    )
    metrics_wait_seconds: float = Field(
        default=10.0, ge=0, description="Seconds that GET /metrics/{model} and its figures wait without `Prefer`."
    )

    lease_seconds: float = Field(
        default=10.0, gt=0, description="A worker that does not report for this many seconds loses its job."
    )
    sweep_seconds: float = Field(default=2.0, gt=0, description="Seconds between two checks for expired leases.")
    requeue_seconds: float = Field(
        default=30.0,
        gt=0,
        description="A job that has waited this many seconds is queued again if the broker's queue is empty, and "
        "after ten times as long even if it is not.",
    )
    max_attempts: int = Field(default=3, gt=0, description="How many workers may be lost over one job.")
    job_history: int = Field(default=10_000, ge=0, description="How many finished jobs are kept.")
    write_retry_seconds: float = Field(
        default=300.0, ge=0, description="Seconds that a worker retries to write a result while Redis does not answer."
    )

    cache_ttl_seconds: int = Field(
        default=86_400,
        gt=0,
        description="Lifetime in seconds of cached values: copies of small artifacts in Redis, and idempotency keys.",
    )
    shard_ttl_seconds: int = Field(
        default=7 * 86_400, gt=0, description="Seconds that the shards of a study are kept for reuse."
    )
    shard_samples: int = Field(
        default=50,
        gt=0,
        description="Samples in a shard of a study, each under all its prunes; a good shard takes about a minute.",
    )
    hot_artifact_bytes: int = Field(
        default=256 * KIB, ge=0, description="Artifacts up to this many bytes are also cached in Redis."
    )

    batch_size: int = Field(
        default=64, gt=0, description="Most rows of one network call: samples x variants; guidance doubles it."
    )
    model_memory_bytes: int = Field(
        default=8 * GIB,
        gt=0,
        description="The systems that a worker keeps loaded stay below this many bytes; condition parts may take an "
        "eighth of it besides, and decoders a quarter.",
    )
    device: str = Field(default="auto", description="Device of a worker: auto, cpu, cuda, cuda:1, ...")

    compile: bool = Field(
        default=False,
        description="Compile networks, once for each of a few batch sizes; the first job of each size waits for it.",
    )
    threads: int | None = Field(
        default=None, gt=0, description="CPU threads of a worker; by default one for each core."
    )
    worker_index: int = Field(
        default=0, ge=0, description="Index of this worker on its machine; with device auto, it selects the GPU."
    )
    handover_seconds: float = Field(
        default=5.0, ge=0, description="Seconds that a job may go on after its worker was stopped; then it is requeued."
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["console", "json"] = "console"

    @property
    def broker(self) -> str:
        """The URL of the broker, as kombu takes it."""
        return ";".join(map(kombu_url, (self.broker_url or self.redis_url).split(";")))

    @property
    def artifacts(self) -> str:
        """The fsspec URL of the artifacts."""
        return self.artifacts_url or str(self.data_dir.absolute() / "artifacts")


class SettingsError(ValueError):
    """Environment variables with values that cannot be used; the message has a line for each."""

    def __init__(self, error: ValidationError) -> None:
        super().__init__("\n".join(_faults(error)))


def _faults(error: ValidationError) -> Iterator[str]:
    environment = {name.upper(): value for name, value in os.environ.items() if value}
    for fault in error.errors():
        name = str(fault["loc"][0]).lower().removeprefix("tailprune_")
        choices = (f"TAILPRUNE_{name}".upper(), name.upper())
        variable = next((choice for choice in choices if choice in environment), choices[0])
        value = masked(environment.get(variable, ""))
        message = fault["msg"].removeprefix("Value error, ")
        yield f"{variable}={value}: {message[0].lower()}{message[1:]}"


def unknown_variables() -> Iterator[str]:
    """What to say of each variable of the environment that begins with TAILPRUNE_ and is no setting."""
    known = [*(f"TAILPRUNE_{name}".upper() for name in Settings.model_fields), *OF_OTHERS]
    for name in sorted(os.environ):
        if name.upper().startswith("TAILPRUNE_") and name.upper() not in known:
            close = get_close_matches(name.upper(), known, n=1, cutoff=0.85)
            yield f"{name} is not a setting and has no effect" + "".join(f"; did you mean {found}?" for found in close)


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once. Raises SettingsError."""
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError(error) from None
