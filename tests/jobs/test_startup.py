"""What a process checks before it begins: servers, folders, and that its artifacts belong to its Redis."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from jobs.settings import Settings
from jobs.startup import (
    STORE_KEY,
    NotYet,
    StartError,
    await_servers,
    check_folder,
    check_servers,
    ending_on_reasons,
)
from jobs.storage.artifacts import ID_FILE, ArtifactsError, ArtifactStore
from tests.redis_process import RedisProcess, free_port


@pytest.fixture(autouse=True)
def _settles_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.startup.SETTLE_SECONDS", 0.2)


@pytest.fixture
def elsewhere(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with the same Redis and another data folder."""
    return settings.model_copy(update={"data_dir": tmp_path / "elsewhere"})


def check(settings: Settings) -> None:
    with redis.Redis.from_url(settings.redis_url) as client:
        check_servers(settings, ArtifactStore(settings, client))


def id_file(settings: Settings) -> Path:
    return Path(settings.artifacts, ID_FILE)


@pytest.mark.usefixtures("redis_client")
def test_another_store_of_artifacts_on_the_same_redis_is_refused_with_the_ways_out(
    settings: Settings, elsewhere: Settings
) -> None:
    check(settings)
    check(settings)
    with pytest.raises(StartError) as refused:
        check(elsewhere)
    for part in (settings.artifacts, elsewhere.artifacts, "TAILPRUNE_ARTIFACTS_URL", "REDIS_URL", ID_FILE):
        assert part in str(refused.value)
    assert not id_file(elsewhere).exists()
    id_file(elsewhere).parent.mkdir(parents=True)
    id_file(elsewhere).write_text(id_file(settings).read_text() + "\n")  # the last of the ways out
    check(elsewhere)


@pytest.mark.usefixtures("redis_client")
def test_another_database_of_the_same_server_is_another_redis(settings: Settings, elsewhere: Settings) -> None:
    check(settings)
    check(elsewhere.model_copy(update={"redis_url": settings.redis_url.replace("/0", "/1")}))
    check(settings.model_copy(update={"redis_url": settings.redis_url.replace("/0", "/2")}))


@pytest.mark.usefixtures("redis_client")
def test_a_store_that_is_mounted_elsewhere_is_the_same_store(settings: Settings, elsewhere: Settings) -> None:
    check(settings)
    settings.data_dir.rename(elsewhere.data_dir)
    check(elsewhere)


@pytest.mark.usefixtures("redis_client")
def test_a_store_that_was_emptied_on_purpose_is_the_same_store(settings: Settings) -> None:
    check(settings)
    known = id_file(settings).read_text()
    shutil.rmtree(settings.data_dir)
    check(settings)
    assert id_file(settings).read_text() == known


def test_a_redis_that_was_emptied_takes_the_store_that_is_there(
    settings: Settings, elsewhere: Settings, redis_client: redis.Redis
) -> None:
    check(settings)
    redis_client.flushall()
    check(settings)
    with pytest.raises(StartError):
        check(elsewhere)


@pytest.mark.usefixtures("redis_client")
def test_processes_that_start_at_once_agree_on_one_id(settings: Settings) -> None:
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(check, settings) for _ in range(16)]:
            done.result()


@pytest.mark.usefixtures("redis_client")
def test_of_two_new_stores_that_start_at_once_one_is_refused(settings: Settings, elsewhere: Settings) -> None:
    with ThreadPoolExecutor(2) as pool:
        errors = [pool.submit(check, each).exception() for each in (settings, elsewhere)]
    assert sorted(type(error).__name__ for error in errors) == ["NoneType", "StartError"]


@pytest.mark.parametrize("url", ["/proc/nope", "file:///proc/nope"])
def test_a_store_that_cannot_be_written_claims_no_redis(
    settings: Settings, redis_client: redis.Redis, url: str
) -> None:
    with pytest.raises(StartError, match=r"the artifacts in /proc/nope on .* cannot be used: No such file"):
        check(settings.model_copy(update={"artifacts_url": url}))
    assert not redis_client.exists(STORE_KEY)
    check(settings)


def test_a_redis_that_does_not_answer_is_awaited_and_a_wrong_password_is_not(own_redis: RedisProcess) -> None:
    url = own_redis.url.replace("redis://", "redis://:s3cret@")
    own_redis.stop()
    with pytest.raises(NotYet, match=rf"Redis at redis://:\*\*\*@127.0.0.1:{own_redis.port}/0: connection refused"):
        check(Settings(redis_url=url))
    own_redis.start()
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("requirepass", "another")
    with pytest.raises(StartError, match="refuses the user name or the password") as refused:
        check(Settings(redis_url=url))
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("rights", "enough"),
    [
        (["~*", "&*", "+@all", "-@dangerous"], True),
        (["~tailprune:*", "&*", "+@all"], False),  # not the keys of Celery
        (["~*", "resetchannels", "+@all"], False),
        (["~*", "&*", "+@all", "-@scripting"], False),
    ],
)
def test_a_user_of_redis_without_the_rights_that_are_needed_is_refused(
    settings: Settings, own_redis: RedisProcess, rights: list[str], enough: bool
) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.execute_command("ACL", "SETUSER", "me", "on", ">s3cret", *rights)
    url = own_redis.url.replace("redis://", "redis://me:s3cret@")
    limited = settings.model_copy(update={"redis_url": url})
    if enough:
        check(limited)
        return
    with pytest.raises(StartError, match=r"redis://me:\*\*\*@.*its user lacks rights \(.*\); give it ~\* &\* \+@all"):
        check(limited)


@pytest.mark.usefixtures("redis_client")
@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_of_its_own_is_checked_too(settings: Settings, scheme: str) -> None:
    port = free_port()
    broken = settings.model_copy(update={"broker_url": f"{scheme}://me:s3cret@127.0.0.1:{port}/"})
    with pytest.raises(NotYet, match=rf"the broker at {scheme}://me:\*\*\*@127.0.0.1:{port}/: .*refused"):
        check(broken)


@pytest.mark.usefixtures("redis_client")
def test_a_wait_says_what_for_once_and_ends_when_the_servers_answer(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.startup.RETRY_SECONDS", 0.01)
    reasons = [NotYet("no Redis"), NotYet("no Redis"), NotYet("no broker"), None]

    def check_servers(*_: object) -> None:
        if reason := reasons.pop(0):
            raise reason

    monkeypatch.setattr("jobs.startup.check_servers", check_servers)
    said: list[str] = []
    with redis.Redis.from_url(settings.redis_url) as client:
        await_servers(settings, ArtifactStore(settings, client), said.append)
    assert said == ["no Redis", "no broker"]
    assert not reasons


def test_a_wait_ends_when_it_is_stopped(settings: Settings) -> None:
    said: list[str] = []
    with redis.Redis.from_url(settings.redis_url) as client:
        await_servers(settings, ArtifactStore(settings, client), said.append, stopped=lambda: bool(said))
    assert len(said) == 1


@pytest.mark.parametrize("folder", ["file", "file/below", "/proc/nope"])
def test_a_folder_that_cannot_be_used_is_refused_by_its_setting(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match=f"the folder {tmp_path / folder} cannot be used: .* --data-dir"):
        check_folder(tmp_path / folder, "--data-dir")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("gs://bucket", r"gs://bucket: .*gcsfs"),
        ("zip://a.zip::/no/such.zip", r"zip://a.zip::/no/such.zip: .*No such file"),
        ("ftp://me:s3cret@127.0.0.1:1/x", r"ftp://me:\*\*\*@127.0.0.1:1/x: .*refused"),
    ],
)
def test_artifacts_that_cannot_be_opened_are_refused_with_the_reason(settings: Settings, url: str, reason: str) -> None:
    with (
        redis.Redis.from_url(settings.redis_url) as client,
        pytest.raises(ArtifactsError, match=f"^TAILPRUNE_ARTIFACTS_URL={reason}"),
    ):
        ArtifactStore(settings.model_copy(update={"artifacts_url": url}), client)


def test_a_process_that_cannot_start_ends_with_the_reason_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, ending_on_reasons():
        raise StartError("no folder")
    assert ended.value.code == os.EX_CONFIG
    assert capsys.readouterr().err == "tailprune: no folder\n"
