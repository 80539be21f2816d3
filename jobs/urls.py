"""URLs in settings: checked, spelt as redis-py and as kombu take them, and shown without passwords.

A check raises ValueError with a reason that repeats nothing of the URL, which may have a password.
"""

from __future__ import annotations

import os
import re
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import fsspec
import redis

__all__ = ["REDIS", "check_artifacts", "check_broker", "check_redis", "kombu_url", "masked"]

REDIS = ("redis", "rediss", "unix", "redis+socket")
CREDENTIALS = re.compile(r"(?<=://)(?P<user>[^:@/?#]*)(?P<password>:.*)?@", re.DOTALL)
SECRETS = re.compile(r"(?<=[?&])([^=&]*(?:password|secret|token|key)[^=&]*=)[^&]*", re.IGNORECASE)
FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
ENCODE = "a password with one of / ? # @ : % in it has to be percent-encoded"


def masked(url: str) -> str:
    """A URL as messages and logs show it: without its password, also where it is not well-formed."""
    hidden = CREDENTIALS.sub(lambda found: f"{found['user']}:***@" if found["password"] else "***@", url)
    return SECRETS.sub(r"\1***", hidden)


def check_redis(url: str) -> str:
    """The URL of a Redis server as redis-py takes it; `redis+socket://`, kombu's spelling of `unix://`, is taken too.

    Raises ValueError if redis-py would refuse it, or ignore a part of it.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in REDIS:
        raise ValueError(
            "not the URL of a Redis server, such as redis://127.0.0.1:6379/0, rediss://host or unix:///run/redis.sock"
        )
    if scheme == "redis+socket":
        url = f"unix://{rest}".replace("virtual_host=", "db=")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(f"the port is not a number from 0 to 65535; {ENCODE}") from None
    if parts.scheme == "unix":
        if parts.hostname or len(parts.path) < 2:
            raise ValueError("unix:// takes the absolute path of a socket, such as unix:///run/redis.sock")
    elif not re.fullmatch(r"/?|/\d+", parts.path):
        raise ValueError(f"the database is not a number, as in redis://127.0.0.1:6379/0; {ENCODE}")
    try:
        redis.ConnectionPool.from_url(url).make_connection()  # connects to nothing
    except TypeError as error:
        unknown = str(error).rpartition("argument ")[2]
        raise ValueError(f"redis-py does not know the option {unknown}") from None
    except (ValueError, redis.RedisError) as error:
        raise ValueError(f"redis-py refuses it: {error}") from None
    missing = [name for name, value in parse_qsl(parts.query) if name in FILES and not os.path.exists(value)]
    if missing:
        raise ValueError(f"{missing[0]} names a file that does not exist")
    return url


def kombu_url(url: str) -> str:
    """The URL of a broker as kombu takes it: its own spelling of sockets, and the database in the path.

    Options of redis-py other than those of TLS are left out, since kombu refuses them.
    """
    if urlsplit(url).scheme not in REDIS:
        return url
    parts = urlsplit(check_redis(url))
    query = dict(parse_qsl(parts.query))
    database = query.get("db") or (parts.path.strip("/") if parts.scheme != "unix" else "")
    user = quote(unquote(parts.username or "") or query.get("username", ""), safe="")
    password = quote(unquote(parts.password or "") or query.get("password", ""), safe="")
    login = f"{user}:{password}@" if user or password else ""
    if parts.scheme == "unix":
        options = f"?virtual_host={database}" if database else ""
        return f"redis+socket://{login}{parts.path}{options}"
    secure = urlencode({name: value for name, value in query.items() if name.startswith("ssl_")})
    address = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{login}{address}/{database}{'?' if secure else ''}{secure}"


def check_broker(url: str) -> str:
    """The URL of a broker; several, separated by semicolons, are tried in turn. Raises ValueError."""
    for each in url.split(";"):
        scheme, separator, _ = each.partition("://")
        if scheme in REDIS:
            check_redis(each)
        elif not separator:
            raise ValueError("not the URL of a broker, such as redis://127.0.0.1:6379/0 or amqp://127.0.0.1")
        elif scheme == "memory":
            raise ValueError("each process would have a queue of its own; name a broker that all processes reach")
        elif scheme == "sentinel":
            raise ValueError("sentinels are not supported; name the Redis server itself")
        else:
            _check_transport(scheme)
    return url


def _check_transport(scheme: str) -> None:
    from kombu.transport import TRANSPORT_ALIASES, resolve_transport  # only now: it takes long

    name = scheme.partition("+")[0]
    if name not in TRANSPORT_ALIASES:
        raise ValueError("not a broker that Celery knows; use redis:// or amqp://")
    try:
        resolve_transport(name)
    except Exception as error:  # one that is half there fails in ways of its own
        raise ValueError(f"its package is not installed ({error}); Celery's documentation names it") from None


def check_artifacts(url: str) -> str:
    """The fsspec URL of the artifacts, or a path. Raises ValueError."""
    for part in url.split("::"):
        scheme, separator, _ = part.partition("://")
        if not separator and "::" not in url:
            continue  # a path
        if scheme == "memory":
            raise ValueError("each process would have a memory of its own; name a folder or a bucket")
        if scheme not in fsspec.available_protocols():
            raise ValueError(f"fsspec does not know {scheme}://; use a path, or a URL such as s3://bucket/folder")
    return url
