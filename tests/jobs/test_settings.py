"""Settings from the environment: what counts as set, and what is said of a value that cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.settings import Settings, SettingsError, get_settings, limits_by_class, unknown_variables
from tailprune.spec.registry import registry_path


@pytest.fixture(autouse=True)
def _read_anew() -> Iterator[None]:
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("REDIS_URL", "TAILPRUNE_REDIS_URL", "BROKER_URL", "TAILPRUNE_BROKER_URL", "TAILPRUNE_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_an_empty_variable_counts_as_not_set(environment: pytest.MonkeyPatch) -> None:
    plain = Settings()
    for name in Settings.model_fields:
        environment.setenv(f"TAILPRUNE_{name.upper()}", "")
    for name in ("REDIS_URL", "BROKER_URL"):
        environment.setenv(name, "")
    empty = Settings()
    assert empty == plain
    assert not empty.model_fields_set


def test_an_empty_variable_does_not_hide_the_other_name_of_its_setting(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TAILPRUNE_REDIS_URL", "")
    environment.setenv("REDIS_URL", "redis://elsewhere/1")
    assert Settings().redis_url == "redis://elsewhere/1"


@pytest.mark.parametrize("variable", ["REDIS_URL", "TAILPRUNE_REDIS_URL", "BROKER_URL", "TAILPRUNE_BROKER_URL"])
def test_a_url_that_cannot_be_used_is_refused_by_its_variable_without_its_password(
    environment: pytest.MonkeyPatch, variable: str
) -> None:
    environment.setenv(variable, "redis://:s3cret@host:port")
    with pytest.raises(SettingsError) as refused:
        get_settings()
    assert str(refused.value).startswith(f"{variable}=redis://:***@host:port: the port is not a number")
    assert "\n" not in str(refused.value)


def test_each_setting_that_cannot_be_used_has_a_line(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TAILPRUNE_MAX_STEPS", "many")
    environment.setenv("TAILPRUNE_LOG_FORMAT", "xml")
    with pytest.raises(SettingsError) as refused:
        get_settings()
    steps, log_format = str(refused.value).splitlines()
    assert steps.startswith("TAILPRUNE_MAX_STEPS=many: input should be a valid integer")
    assert log_format == "TAILPRUNE_LOG_FORMAT=xml: input should be 'console' or 'json'"


def test_passwords_are_in_no_repr_of_settings(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("REDIS_URL", "redis://:s3cret@host")
    environment.setenv("BROKER_URL", "amqp://me:s3cret@host")
    environment.setenv("TAILPRUNE_ARTIFACTS_URL", "s3://bucket?secret=s3cret")
    assert "s3cret" not in repr(Settings())


def test_spaces_and_the_end_of_a_line_around_a_value_are_no_part_of_it(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("REDIS_URL", " redis://elsewhere/1\r\n")
    environment.setenv("TAILPRUNE_DEVICE", "cpu ")
    assert (Settings().redis_url, Settings().device) == ("redis://elsewhere/1", "cpu")


def test_a_tilde_is_the_home_folder(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HOME", "/home/me")
    environment.setenv("TAILPRUNE_DATA_DIR", "~/data")
    environment.setenv("TAILPRUNE_REGISTRY", "~/models.toml")
    assert (Settings().data_dir, Settings().registry) == (Path("/home/me/data"), Path("/home/me/models.toml"))
    assert registry_path() == Path("/home/me/models.toml")


def test_a_socket_of_redis_is_the_brokers_too(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("REDIS_URL", "unix:///run/redis.sock?db=2")
    assert Settings().broker == "redis+socket:///run/redis.sock?virtual_host=2"


def test_the_registry_is_found_from_any_folder(
    environment: pytest.MonkeyPatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings().registry.is_file()


def test_a_variable_that_is_no_setting_is_named_with_the_one_that_it_resembles(
    environment: pytest.MonkeyPatch,
) -> None:
    for name in ("TAILPRUNE_BATCH_SIZE", "tailprune_threads", "TAILPRUNE_URL", "TAILPRUNE_REDIS_URL"):
        environment.setenv(name, "1")
    assert not list(unknown_variables())
    environment.setenv("TAILPRUNE_BATCHSIZE", "3")
    environment.setenv("TAILPRUNE_COLOUR", "red")
    assert list(unknown_variables()) == [
        "TAILPRUNE_BATCHSIZE is not a setting and has no effect; did you mean TAILPRUNE_BATCH_SIZE?",
        "TAILPRUNE_COLOUR is not a setting and has no effect",
    ]


def test_limits_are_for_each_class_or_by_class(environment: pytest.MonkeyPatch) -> None:
    assert Settings().keep_days == Settings().keep_bytes == ""
    environment.setenv("TAILPRUNE_KEEP_DAYS", "30")
    environment.setenv("TAILPRUNE_KEEP_BYTES", "results=1.5GB, shards=2 GiB,uploads=1000")
    settings = Settings()
    assert limits_by_class(settings.keep_days) == {"results": 30, "shards": 30, "uploads": 30}
    assert limits_by_class(settings.keep_bytes) == {"results": 1.5e9, "shards": 2 * 2**30, "uploads": 1000}


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("KEEP_DAYS", "models=3", "there is no class 'models' to limit; the classes are results, shards, uploads"),
        ("KEEP_DAYS", "results=soon", "'soon' is no amount"),
        ("KEEP_DAYS", "0", "'0' is no amount: give a number above 0"),
        ("KEEP_DAYS", "-1", "'-1' is no amount"),
        ("KEEP_DAYS", "30d", "'30d' is no amount"),
        ("KEEP_DAYS", "results=30GB", "days have no unit"),
        ("KEEP_BYTES", "20 parsecs", "'20 parsecs' is no amount"),
        ("KEEP_BYTES", "results=", "'' is no amount"),
    ],
)
def test_a_limit_that_is_none_is_refused_with_the_reason(
    environment: pytest.MonkeyPatch, variable: str, value: str, reason: str
) -> None:
    environment.setenv(f"TAILPRUNE_{variable}", value)
    with pytest.raises(SettingsError) as refused:
        get_settings()
    assert f"TAILPRUNE_{variable}={value}: {reason}" in str(refused.value)
