"""Every setting of the service and its workers, read from the environment.

The variable `TAILPRUNE_<NAME>` sets a field; `REDIS_URL` and `BROKER_URL` work under these names too. An empty variable
counts as not set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from jobs.requests.fields import MOST_STUDY_VARIANTS
from jobs.urls import check_artifacts, check_broker, check_redis, kombu_url, masked
from jobs.webhooks.hosts import check_hosts
from jobs.webhooks.secret import check_secret
from tailprune.spec.registry import registry_path

__all__ = [
    "Settings",
    "SettingsError",
    "as_prefix",
    "get_settings",
    "limits_by_class",
    "listed",
    "retry_pauses",
    "unknown_variables",
]

OF_OTHERS = ("TAILPRUNE_URL", "TAILPRUNE_KEY", "TAILPRUNE_OFFLINE")
"""Variables that the command line and the library read."""

LONGEST_RETRY_SECONDS = 172_800
MOST_RETRIES = 20

KIB, MIB, GIB = 2**10, 2**20, 2**30


def as_prefix(path: str) -> str:
    """A path with a slash at its beginning and none at its end; empty for the root."""
    return f"/{path.strip('/')}".rstrip("/")


def _from_home(path: Path) -> Path:
    """A path whose ~ is the home folder: files of variables are read by no shell."""
    return Path(os.path.expanduser(path))


LocalPath = Annotated[Path, AfterValidator(_from_home)]


KEPT = ("results", "shards", "uploads")
"""The classes of artifacts whose age and size may be limited."""
UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": KIB,
    "MIB": MIB,
    "GIB": GIB,
    "TIB": 2**40,
}


def limits_by_class(text: str) -> dict[str, float]:
    """Limits as `keep_days` and `keep_bytes` have them, by class; a number by itself is that of each class.

    Raises ValueError for a text that is none.
    """
    limits: dict[str, float] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, separator, amount = (side.strip() for side in part.rpartition("="))
        if separator and name not in KEPT:
            raise ValueError(f"there is no class {name!r} to limit; the classes are {', '.join(KEPT)}")
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", amount)
        if found is None or found[2].upper() not in UNITS or float(found[1]) == 0:
            raise ValueError(
                f"{amount!r} is no amount: give a number above 0, or one for each class, results=30,shards=7"
            )
        limits |= dict.fromkeys([name] if separator else KEPT, float(found[1]) * UNITS[found[2].upper()])
    return limits


def listed(text: str) -> tuple[str, ...]:
    """The values of a setting that is a list, separated by commas."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def _checked_hosts(text: str) -> str:
    for host in listed(text):
        if not re.fullmatch(r"\*|(\*\.)?[A-Za-z0-9._-]+|\[?[0-9A-Fa-f:.]+\]?", host):
            raise ValueError(
                f"{host!r} is no name of a host: give names without scheme and port, as in example.org,*.example.net"
            )
    return text


def _checked_origins(text: str) -> str:
    for origin in listed(text):
        if not re.fullmatch(r"https?://[A-Za-z0-9._\[\]:-]+", origin):
            raise ValueError(
                f"{origin!r} is no origin: give scheme, host and port as browsers send them, as in "
                "https://example.org,http://localhost:8888"
            )
    return text


def retry_pauses(text: str) -> list[float]:
    """The pauses in seconds between the tries of a webhook, from numbers separated by commas. Raises ValueError."""
    try:
        pauses = [float(part) for part in text.split(",")]
    except ValueError:
        pauses = []
    if not pauses or not all(0 < pause <= LONGEST_RETRY_SECONDS for pause in pauses) or len(pauses) > MOST_RETRIES:
        raise ValueError(
            f"give up to {MOST_RETRIES} numbers of seconds, separated by commas, each above 0 and at most "
            f"{LONGEST_RETRY_SECONDS} (two days), as in 5,30,120"
        )
    return pauses


def _checked_pauses(text: str) -> str:
    retry_pauses(text)
    return text


def _checked_days(text: str) -> str:
    _checked_bytes(text)
    if re.search(r"[0-9]\s*[A-Za-z]", text):
        raise ValueError("days have no unit: give a number, or one for each class, as in results=30,shards=7")
    return text


def _checked_bytes(text: str) -> str:
    limits_by_class(text)
    return text


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
        description="The Redis server of job records, events and cache, and the broker if `broker_url` is not set: "
        "`redis://`, `rediss://` (TLS; `?ssl_ca_certs=FILE`) or `unix:///run/redis.sock?db=0`. `tailprune serve` "
        "starts a server of its own if this is not set.",
    )
    broker_url: Annotated[str, AfterValidator(check_broker)] | None = Field(
        default=None,
        repr=False,
        validation_alias=AliasChoices("TAILPRUNE_BROKER_URL", "BROKER_URL"),
        description="Any broker that Celery supports; `redis_url` by default.",
    )
    data_dir: LocalPath = Field(
        default=Path("data"), description="The folder of artifacts and small caches; it can be moved as a whole."
    )
    artifacts_url: Annotated[str, AfterValidator(check_artifacts)] | None = Field(
        default=None,
        repr=False,
        description="Where artifacts are stored, as an fsspec URL that all processes reach, not `memory://`; a folder "
        "of `data_dir` by default.",
    )
    registry: LocalPath = Field(
        default_factory=registry_path,
        description="The registry of models; by default `models/models.toml`, or else the shipped one.",
    )
    root_path: Annotated[str, AfterValidator(as_prefix)] = Field(
        default="",
        description="The prefix under which a proxy publishes the service, such as `/tailprune`.",
    )
    ui: bool = Field(
        default=True,
        description="Whether the service has the pages at `/ui/`, to which it sends browsers from `/`.",
    )
    model_folders: str = Field(
        default="",
        description="The folders whose checkpoints `POST /models` may register, separated by commas or colons; they "
        "have to be at the same place on all machines. By default only files of the Hugging Face hub can be "
        "registered.",
    )
    hub_cache: LocalPath | None = Field(
        default=None,
        description="Where files of the Hugging Face hub are stored: `tailprune models fetch` writes them, service and "
        "workers read them. By default huggingface_hub's own cache.",
    )

    keys: LocalPath | None = Field(
        default=None,
        description="The file of keys, which `tailprune keys` writes; by default `keys.toml` in `data_dir`. While it "
        "has no key, the service is open to all who reach it, and answers this machine alone.",
    )
    open: bool = Field(
        default=False,
        description="Whether a service without keys answers other machines too, to be set only where something else "
        "keeps strangers away.",
    )
    allowed_hosts: Annotated[str, AfterValidator(_checked_hosts)] = Field(
        default="",
        description="Names under which the service is reached, as in `example.org,*.example.net`, besides those of "
        "this machine and the address that it listens on; a request whose `Host` is another is refused. `*` is any.",
    )
    cors_origins: Annotated[str, AfterValidator(_checked_origins)] = Field(
        default="",
        description="Origins of other sites whose pages may use the service from a browser, as in "
        "`https://example.org,http://localhost:8888`; none by default.",
    )
    rate: int | None = Field(
        default=None,
        gt=0,
        description="Most requests a minute of one key, or of one address without a key, to all processes of the "
        "service together. No limit by default.",
    )
    max_concurrent: int | None = Field(
        default=None,
        gt=0,
        description="Most requests of one key, or of one address without a key, that are answered at a time by all "
        "processes of the service together; followers of events count. No limit by default.",
    )

    max_body_bytes: int = Field(
        default=MIB, gt=0, description="Largest request body in bytes, except for `POST /conditions`."
    )
    max_conditions_bytes: int = Field(
        default=256 * MIB,
        gt=0,
        description="Largest file of conditions in bytes: as sent, unpacked, and as float32. Uploads wait on disk, in "
        "the data folder, and are read one at a time, which needs about three times the size of the file in memory.",
    )
    max_conditions: int = Field(default=1024, gt=0, description="Most conditions in one file.")
    max_samples: int = Field(default=256, gt=0, description="Most samples of one job: labels x `samples_per_label`.")
    max_variants: int = Field(default=16, gt=0, description="Most prunes of one job.")
    max_study_samples: int = Field(
        default=100_000, gt=0, description="Most samples of one variant of a study: labels x `samples_per_label`."
    )
    max_study_variants: int = Field(
        default=64, gt=0, le=MOST_STUDY_VARIANTS, description="Most prunes of one study, including those of its grids."
    )
    max_steps: int = Field(default=1000, gt=1, description="Most sampling steps.")
    max_extract_bytes: int = Field(
        default=GIB,
        gt=0,
        description="Most bytes of the vectors that one `POST /extract` makes: timesteps x inputs x components x 4. A "
        "worker needs about twice as much memory for it.",
    )
    max_wait_seconds: float = Field(
        default=60.0, ge=0, description="Longest wait in seconds that is granted to `Prefer: wait`."
    )
    max_connections: int = Field(
        default=8000, gt=0, description="How many clients may be connected at a time, to each process of the service."
    )
    request_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Seconds that the head of a request may take, and over which its body has to come, and a response "
        "to be read, at 1 KiB a second at least.",
    )
    max_followers: int = Field(
        default=4000,
        ge=0,
        description="How many clients may follow events or wait for jobs at a time, in each process of the service.",
    )
    metrics_wait_seconds: float = Field(
        default=10.0, ge=0, description="Seconds that `GET /metrics/{model}` and its figures wait without `Prefer`."
    )

    lease_seconds: float = Field(
        default=10.0, gt=0, description="A worker that does not report for this many seconds loses its job."
    )
    sweep_seconds: float = Field(
        default=2.0,
        gt=0,
        description="Longest pause in seconds between two checks for expired leases; at most a quarter of a lease.",
    )
    requeue_seconds: float = Field(
        default=30.0,
        gt=0,
        description="A job that has waited this many seconds is queued again if the broker's queue is empty, and "
        "after ten times as long even if it is not.",
    )
    max_attempts: int = Field(default=3, gt=0, description="How many workers may be lost over one job.")
    job_history: int = Field(
        default=10_000, ge=0, description="How many finished jobs are kept, those of statistics and figures apart."
    )
    statistics_history: int = Field(
        default=2_000, ge=0, description="How many finished jobs of statistics and figures are kept."
    )
    max_queued_jobs: int = Field(
        default=10_000, gt=0, description="Most jobs that wait in the queues; a request for one more is answered `429`."
    )
    max_queued_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Most of them that one client may have, by its key or else its address, as a share of "
        "`max_queued_jobs`; clients without a key on the same machine have no limit of their own.",
    )
    max_job_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Seconds that a job may run, all its attempts together; then it stops at its next step, and fails "
        "with `time-limit`. No limit by default.",
    )
    redis_memory_bytes: int = Field(
        default=512 * MIB,
        ge=16 * MIB,
        description="Most memory in bytes of the Redis server that `tailprune serve` starts.",
    )
    write_retry_seconds: float = Field(
        default=300.0, ge=0, description="Seconds that a worker retries to write a result while Redis does not answer."
    )

    webhook_hosts: Annotated[str, AfterValidator(check_hosts)] = Field(
        default="",
        description="The hosts that webhooks may call, separated by commas: `hooks.example.com`, `*.example.com` (all "
        "names below it), `hooks.example.com:8443`, `http://hooks.example.com` (without TLS), an address, or "
        "`private:receiver` for a name whose address is private. None by default: webhooks are off.",
    )
    webhook_secret: Annotated[str, AfterValidator(check_secret)] | None = Field(
        default=None,
        repr=False,
        description="What webhooks are signed with: `whsec_` and 24 to 64 bytes in base64; of several, separated by "
        "spaces, each makes a signature. By default the one in the file `webhook.secret` of `data_dir`, made when it "
        "is first needed.",
    )
    webhook_retry_seconds: Annotated[str, AfterValidator(_checked_pauses)] = Field(
        default="5,30,120,600,3600,21600",
        description="Pauses in seconds after each failed try of a webhook; after the last try it has failed.",
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
    keep_days: Annotated[str, AfterValidator(_checked_days)] = Field(
        default="",
        description="Days that artifacts are kept after their last use: a number, or by class as in "
        "`results=30,shards=7,uploads=90`. No limit by default.",
    )
    keep_bytes: Annotated[str, AfterValidator(_checked_bytes)] = Field(
        default="",
        description="Most bytes of artifacts of a class, of which the oldest are deleted: a number such as `20GB` or "
        "`16GiB`, or by class as in `results=100GB,shards=20GB,uploads=5GB`. No limit by default.",
    )
    collect_seconds: float = Field(
        default=600.0, gt=0, description="Seconds between two collections of files that are no longer needed."
    )
    collect_grace_seconds: float = Field(
        default=3600.0,
        gt=0,
        description="Seconds that a file is kept in any case after it was written, and a result after its job "
        "finished; the clocks of Redis, workers and the store of artifacts may differ by less.",
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
        "eighth of it besides, modulation metrics another, decoders a quarter, and the extractors and references "
        "of studies 2 GiB.",
    )
    device: str = Field(default="auto", description="Device of a worker: `auto`, `cpu`, `cuda`, `cuda:1`, ...")

    compile: bool = Field(
        default=False,
        description="Compile networks with `torch.compile`, once for each of a few batch sizes, which takes half a "
        "minute or more and pays off where the network is large; the first job of each size waits for it. Needs a C++ "
        "compiler on the worker, which the images do not have.",
    )
    threads: int | None = Field(
        default=None,
        gt=0,
        description="CPU threads of a worker; by default one for each core, which `tailprune serve` divides among its "
        "workers.",
    )
    worker_index: int = Field(
        default=0, ge=0, description="Index of this worker on its machine; with device `auto`, it selects the GPU."
    )
    handover_seconds: float = Field(
        default=5.0, ge=0, description="Seconds that a job may go on after its worker was stopped; then it is requeued."
    )

    traces: bool = Field(
        default=False,
        description="Whether spans of requests, jobs and shards are sent to OpenTelemetry, by OTLP over HTTP and to "
        "where `OTEL_EXPORTER_OTLP_ENDPOINT` says; needs `tailprune[otel]`, which the images have.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="The least severe lines that are logged: `DEBUG`, `INFO`, `WARNING` or `ERROR`."
    )
    log_format: Literal["console", "json"] = Field(
        default="console", description="Lines for people, `console`, or for programs, `json`."
    )
    log_file: LocalPath | None = Field(
        default=None,
        description="The file that a process writes its output to, and opens anew when it is moved away, as by "
        "logrotate; `tailprune serve` sets it for each process. By default stderr.",
    )

    @property
    def broker(self) -> str:
        """The URL of the broker, as kombu takes it."""
        return ";".join(map(kombu_url, (self.broker_url or self.redis_url).split(";")))

    @property
    def keys_file(self) -> Path:
        """The file of keys."""
        return self.keys or self.data_dir / "keys.toml"

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
        value = "***" if name == "webhook_secret" else masked(environment.get(variable, ""))
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
