"""Who may do what: keys, which a file has as hashes, the scope that each call needs, and the middleware that checks it.

A key is 256 random bits. Nobody can guess one, and so a plain SHA-256 hides it as well as a slow hash would, which is
for passwords that people choose.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import re
import secrets
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Literal, get_args

import structlog
import tomli_w
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.startup import StartError
from service.problems import ProblemError, problem_response

__all__ = [
    "NAME_PATTERN",
    "PROBES",
    "SCOPES",
    "Access",
    "Key",
    "KeyFile",
    "KeyScope",
    "Keys",
    "address_of",
    "check_scope",
    "is_local",
    "is_loopback",
    "scope_of",
]

KeyScope = Literal["read", "submit", "admin"]
SCOPES: tuple[KeyScope, ...] = get_args(KeyScope)
"""Each may do what those before it may."""
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}"
KEY_PREFIX = "tailprune_"
"""What every key begins with, so that people and scanners of secrets know one when they see it."""
KEY_BYTES = 32
NOTE = b"# Keys of tailprune: `tailprune keys` writes this file.\n"
"""What the file begins with."""
LOOK_SECONDS = 1.0
"""How often it is looked whether the file has changed."""
SLOWED_SECONDS = 1.0
"""How long the answer to a wrong key takes from an address that has sent too many of them."""
IPV6_SUBSCRIBER = 64
"""The bits of an IPv6 address by which clients are told apart: who has one address has all that begin with these."""

OPEN = re.compile(
    r"/|/favicon\.ico|/health/(live|ready)|/ui(/.*)?|/docs(/.*)?|/static-offline-docs/.*|/openapi\.(json|yaml)"
)
"""What is answered without a key: the probes, and files that are the same at every installation of this version."""
PROBES = ("/health/live", "/health/ready")
"""What is answered to other machines too while there are no keys, and is not counted."""
SUBMITS = ("/prune-sample", "/edit", "/studies", "/compact", "/extract", "/conditions")
OWN = re.compile(r"/(jobs|conditions)/[^/]+")
SAFE = ("GET", "HEAD", "OPTIONS")
FORWARDED = frozenset({b"forwarded", b"via", b"x-real-ip"})
FORWARDED_PREFIX = b"x-forwarded-"
"""Headers by which a proxy says for whom it asks, or that it does."""
MISSING_KEY = (
    "this service needs a key: send it as Authorization: Bearer KEY. Where the service runs, `tailprune keys add NAME "
    "--scope read|submit|admin` makes one"
)
CLOSED = (
    "this service has no keys, and so answers its own machine alone: make a key with `tailprune keys add NAME --scope "
    "read|submit|admin`, where it runs, or set TAILPRUNE_OPEN=true if all who reach it may do everything"
)

log = structlog.get_logger(__name__)


def scope_of(method: str, path: str) -> KeyScope | None:
    """The scope that a call needs; None for one that needs no key. What has no entry here needs most.

    method, path: of the request, the path without the prefix of a proxy; or as the contract has them.
    """
    if method in SAFE:
        return None if OPEN.fullmatch(path) else "read"
    if (method == "POST" and path in SUBMITS) or (method == "DELETE" and OWN.fullmatch(path)):
        return "submit"  # of one's own: the route looks whose it is
    return "admin"


class Key(BaseModel):
    """A key as the file has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=f"^{NAME_PATTERN}$", exclude=True)
    scope: KeyScope
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    created: datetime

    def may(self, scope: KeyScope) -> bool:
        """Whether it has this scope."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


class _Document(RootModel[dict[str, Key]]):
    """The file: a table for each key."""


class KeyFile:
    """The file of keys, for one user's eyes alone. It is replaced as a whole, under a lock of its folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Key]:
        """The keys by name; none where there is no file. Raises StartError for a file that is no such."""
        try:
            tables = tomllib.loads(self.path.read_text())
            return _Document.model_validate(
                {name: table | {"name": name} if isinstance(table, dict) else table for name, table in tables.items()}
            ).root
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StartError(f"the file of keys {self.path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            fault = error.errors(include_input=False)[0]
            where = ".".join(map(str, fault["loc"]))
            raise StartError(f"the file of keys {self.path} is not valid: {where}: {fault['msg']}") from None
        except ValueError as error:
            raise StartError(f"the file of keys {self.path} is no TOML: {error}") from None

    def add(self, name: str, scope: KeyScope) -> str:
        """Make a key, and return it: only its hash is kept. Raises StartError, and KeyError for a name that has one."""
        secret = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
        with self._locked():
            keys = self.read()
            if name in keys:
                raise KeyError(name)
            created = datetime.now(UTC).replace(microsecond=0)
            keys[name] = Key(name=name, scope=scope, sha256=_digest(secret), created=created)
            self._write(keys)
        return secret

    def remove(self, name: str) -> None:
        """Forget a key. Raises StartError, and KeyError where there is none of this name."""
        with self._locked():
            keys = self.read()
            del keys[name]
            self._write(keys)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder = os.open(self.path.parent, os.O_RDONLY)
        except OSError as error:
            raise StartError(f"the folder {self.path.parent} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _write(self, keys: Mapping[str, Key]) -> None:
        try:
            handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")  # 0600
            with os.fdopen(handle, "wb") as file:
                file.write(NOTE)  # so that the file of no keys is not empty, as one is that is being written
                tomli_w.dump({name: key.model_dump() for name, key in keys.items()}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except OSError as error:
            raise StartError(f"the file of keys {self.path} cannot be written: {error.strerror}") from error


class Keys:
    """The keys of a file, read anew when it changes.

    A file that vanishes, is emptied or can no longer be read changes nothing, so that a mistake lets nobody in. It is
    tried again at every look, so that a removed key is refused as soon as the file can be read.
    """

    def __init__(self, file: KeyFile) -> None:
        self._file = file
        self._seen = _state(file.path)
        self._take(file.read())
        self._looked = time.monotonic()
        self._fault = ""
        """Why the file was not taken at the last look; each reason is logged once."""

    def known(self) -> Mapping[str, Key]:
        """The keys by name."""
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            if (state := _state(self._file.path)) != self._seen:
                self._reread(state)
        return self._keys

    def admits(self, key: Key | None) -> bool:
        """Whether who was answered with this key, or without one, still would be."""
        keys = self.known()
        return not keys if key is None else keys.get(key.name) == key

    def find(self, secret: str) -> Key | None:
        """The key that this is, if it is one. All are compared, each in a time that does not depend on it."""
        digest, found = _digest(secret), None
        self.known()
        for known, key in self._digests:
            if hmac.compare_digest(digest, known):
                found = key
        return found

    def _take(self, keys: Mapping[str, Key]) -> None:
        self._keys = keys
        self._digests = [(key.sha256, key) for key in keys.values()]

    def _reread(self, state: tuple[int, ...] | None) -> None:
        try:
            if state is None or state[1] == 0:
                raise StartError(f"the file of keys {self._file.path} is gone or empty")
            self._take(self._file.read())
        except StartError as error:
            if str(error) != self._fault:
                log.error("the keys are as they were", reason=str(error))
            self._fault = str(error)
            return
        self._seen, self._fault = state, ""
        log.info("the file of keys has changed", keys=len(self._keys))


class Access:
    """ASGI middleware: who asks, whether they may, and how often.

    The key that was sent is `scope["key"]`, None without one. Without keys only this machine is answered, unless the
    service is open to all.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope["app"].state.app
        path = scope["path"].removeprefix(scope["root_path"])
        needed = scope_of(scope["method"], path)
        keys = state.keys.known()  # once: it may have others a moment later
        protected = needed is not None and bool(keys)
        key = scope["key"] = None
        try:
            if protected:
                assert needed is not None
                key = scope["key"] = await self._key(scope)
                check_scope(key, needed)
            elif not (keys or state.settings.open or path in PROBES or is_local(scope)):
                raise ProblemError("not-allowed", CLOSED)
            elif keys and path in PROBES:
                key = scope["key"] = _sent_key(scope)  # who sends one is told more
            if path in PROBES or not state.limits.active:
                await self.app(scope, receive, _told(send, [], private=True) if protected else send)
                return
            subject = f"address {address_of(scope)}" if key is None else f"key {key.name}"
            async with state.limits.admitted(subject) as headers:
                await self.app(scope, receive, _told(send, headers, private=protected))
        except ProblemError as error:
            await problem_response(error.problem, error.headers)(scope, receive, send)

    async def _key(self, scope: Scope) -> Key:
        """The key of a request. Raises ProblemError where there is none, or a wrong one."""
        if not any(name == b"authorization" for name, _ in scope["headers"]):
            raise ProblemError("key-needed", MISSING_KEY, {"WWW-Authenticate": 'Bearer realm="tailprune"'})
        if (key := _sent_key(scope)) is not None:
            return key
        await scope["app"].state.app.limits.note_wrong_key(address_of(scope))
        raise ProblemError(
            "key-needed",
            "this is no key of this service, or no longer: it is sent as Authorization: Bearer KEY. Where the service "
            "runs, `tailprune keys list` shows whose there are",
            {"WWW-Authenticate": 'Bearer realm="tailprune", error="invalid_token"'},
        )


def _sent_key(scope: Scope) -> Key | None:
    """The key that a request sends; None where there is none, a wrong one or several."""
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(given) != 1:
        return None
    scheme, _, secret = given[0].decode("latin-1").partition(" ")
    keys: Keys = scope["app"].state.app.keys
    return keys.find(secret.strip()) if scheme.lower() == "bearer" else None


def check_scope(key: Key, needed: KeyScope) -> None:
    """Raise ProblemError for a key that does not have a scope."""
    if not key.may(needed):
        raise ProblemError(
            "not-allowed",
            f"this needs a key with the scope {needed!r}, and the key {key.name!r} has {key.scope!r}",
            {"WWW-Authenticate": f'Bearer realm="tailprune", error="insufficient_scope", scope="{needed}"'},
        )


def _told(send: Send, more: list[tuple[bytes, bytes]], *, private: bool) -> Send:
    """Send these headers too; and of what needs a key, that no cache may keep it which several people share."""

    async def send_told(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message["headers"], *more]
            if private:
                said = b", ".join(value for name, value in headers if name == b"cache-control")
                headers = [each for each in headers if each[0] != b"cache-control"]
                headers.append((b"cache-control", _private(said)))
            message = {**message, "headers": headers}
        await send(message)

    return send_told


@lru_cache(maxsize=64)
def _private(said: bytes) -> bytes:
    """A `Cache-Control` as it is for one reader alone."""
    rest = [part for part in re.split(rb",\s*", said) if part not in (b"", b"public", b"private")]
    return b", ".join([b"private", *rest])


def is_local(scope: Scope) -> bool:
    """Whether a request was sent on this machine to an address of it alone, and is not passed on for somebody else."""
    ends = [end[0] for end in (scope.get("server"), scope.get("client")) if end is not None]
    return all(map(is_loopback, ends)) and not any(
        name in FORWARDED or name.startswith(FORWARDED_PREFIX) for name, _ in scope["headers"]
    )


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone; so is what is no address, but the path of a socket."""
    try:
        address = ip_address(host)
    except ValueError:
        return True
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def address_of(scope: Scope) -> str:
    """By what a client without a key is known: its address, or the network of its subscriber in IPv6."""
    host = "" if scope.get("client") is None else str(scope["client"][0])
    try:
        address = ip_address(host)
    except ValueError:
        return "local"
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(ip_network((address, IPV6_SUBSCRIBER), strict=False))
    return host


def _digest(secret: str) -> str:
    return sha256(secret.encode("latin-1", "replace")).hexdigest()


def _state(path: Path) -> tuple[int, ...] | None:
    """What changes when a file is replaced; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
