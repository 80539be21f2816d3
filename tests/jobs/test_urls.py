"""URLs in settings: what is refused, how kombu spells them, and what is shown of them."""

from __future__ import annotations

import pytest
import redis
from kombu import Connection

from jobs.urls import check_artifacts, check_broker, check_redis, kombu_url, masked


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:s3cret@host:6379/0", "redis://:***@host:6379/0"),
        ("rediss://me:s3cret@host", "rediss://me:***@host"),
        ("redis://:s3/cr@et@host:6379", "redis://:***@host:6379"),
        ("redis://s3cret@host", "redis://***@host"),
        ("unix://:s3cret@/run/redis.sock?db=1", "unix://:***@/run/redis.sock?db=1"),
        ("redis://host?db=1&password=s3cret", "redis://host?db=1&password=***"),
        ("s3://bucket?secret=s3cret&region=x", "s3://bucket?secret=***&region=x"),
        ("amqp://me:s3cret@one;amqp://me:s3cret@two", "amqp://me:***@two"),
    ],
)
def test_a_password_is_not_shown(url: str, shown: str) -> None:
    assert masked(url) == shown


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("127.0.0.1:6379", "not the URL of a Redis server"),
        ("sentinel://host:26379", "not the URL of a Redis server"),
        ("http://host", "not the URL of a Redis server"),
        ("memory://", "not the URL of a Redis server"),
        ("redis://host:notaport", "the port is not a number"),
        ("redis://host:99999", "the port is not a number"),
        ("redis://:s3/cret@host:6379/0", "percent-encoded"),
        ("redis://host/notanumber", "the database is not a number"),
        ("redis://host/-1", "the database is not a number"),
        ("redis://host?db=x", "redis-py refuses it"),
        ("redis://host?colour=red", "redis-py does not know the option 'colour'"),
        ("unix://run/redis.sock", "absolute path of a socket"),
        ("unix://", "absolute path of a socket"),
        ("rediss://host?ssl_cert_reqs=perhaps", "redis-py refuses it"),
        ("rediss://host?ssl_ca_certs=/no/such.pem", "ssl_ca_certs names a file that does not exist"),
    ],
)
def test_the_url_of_redis_is_refused_with_a_reason(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        check_redis(url)
    assert "s3" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("127.0.0.1:6379", "not the URL of a broker"),
        ("memory://", "a queue of its own"),
        ("sentinel://host:26379", "sentinels are not supported"),
        ("http://host", "not a broker that Celery knows"),
        ("kafka://host", "its package is not installed"),
        ("redis://host:x", "the port is not a number"),
        ("redis://one;redis://two/x", "the database is not a number"),
    ],
)
def test_the_url_of_a_broker_is_refused_with_a_reason(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_broker(url)


@pytest.mark.parametrize("url", ["amqp://me:pw@host//", "redis://one/1;redis://two/1", "filesystem://"])
def test_other_brokers_of_celery_are_taken(url: str) -> None:
    assert check_broker(url) == url


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("memory://tail", "a memory of its own"),
        ("simplecache::memory://tail", "a memory of its own"),
        ("nonsense://tail", "fsspec does not know nonsense://"),
    ],
)
def test_the_url_of_the_artifacts_is_refused_with_a_reason(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_artifacts(url)


@pytest.mark.parametrize("url", ["/srv/artifacts", "artifacts", "file:///srv/artifacts", "s3://bucket/folder"])
def test_folders_and_known_file_systems_are_taken(url: str) -> None:
    assert check_artifacts(url) == url


@pytest.mark.parametrize(
    ("url", "kombu"),
    [
        ("redis://host:6379/2", "redis://host:6379/2"),
        ("redis://host", "redis://host/"),
        ("redis://me@host?db=3&password=p@&socket_timeout=3", "redis://me:p%40@host/3"),
        ("rediss://:pw@host/2?ssl_cert_reqs=none&client_name=x", "rediss://:pw@host/2?ssl_cert_reqs=none"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock"),
        ("unix://me:p%40@/run/redis.sock?db=3", "redis+socket://me:p%40@/run/redis.sock?virtual_host=3"),
        ("redis+socket:///run/redis.sock?virtual_host=3", "redis+socket:///run/redis.sock?virtual_host=3"),
        ("amqp://host", "amqp://host"),
    ],
)
def test_kombu_gets_its_own_spelling(url: str, kombu: str) -> None:
    assert kombu_url(url) == kombu
    Connection(kombu)  # refuses an option that it does not know


def test_kombus_spelling_of_a_socket_is_taken_for_redis_too() -> None:
    url = check_redis("redis+socket://:p%40@/run/redis.sock?virtual_host=3")
    options = redis.ConnectionPool.from_url(url).connection_kwargs
    assert (options["path"], options["password"], options["db"]) == ("/run/redis.sock", "p@", 3)
