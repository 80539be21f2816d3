"""Keys: a file has them as hashes, each with a name and a scope.

A key is 256 random bits. Nobody can guess one, and so a plain SHA-256 hides it as well as a slow hash would, which is
for passwords that people choose.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import secrets
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

import structlog
import tomli_w
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from jobs.startup import StartError

__all__ = ["NAME_PATTERN", "SCOPES", "Key", "KeyFile", "KeyScope", "Keys"]

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

log = structlog.get_logger(__name__)


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


def _digest(secret: str) -> str:
    return sha256(secret.encode("latin-1", "replace")).hexdigest()


def _state(path: Path) -> tuple[int, ...] | None:
    """What changes when a file is replaced; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
