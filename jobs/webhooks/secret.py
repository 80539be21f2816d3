"""The secret that webhooks are signed with, and their signatures, as Standard Webhooks (version 1.0.0) has them.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["check_secret", "headers_of", "read_secrets"]

PREFIX = "whsec_"
BYTES = 32
FEWEST, MOST = 24, 64
FILE = "webhook.secret"


def check_secret(text: str) -> str:
    """A secret, or several separated by spaces. Raises ValueError, with a reason that repeats none of them."""
    keys = [_key(each) for each in text.split()]
    if not keys:
        raise ValueError("there is no secret in it")
    return text


def read_secrets(setting: str | None, data_dir: Path) -> list[str]:
    """The secrets, the current one first.

    setting: as `check_secret` takes it; None for the one in the data folder.
    data_dir: where one is made, and written to a file, if there is none.
    Raises ValueError for a file that holds none, and OSError where it can be neither read nor written.
    """
    if setting is not None:
        return setting.split()
    path = data_dir / FILE
    with suppress(FileNotFoundError):
        return _read(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp makes a file for its owner alone. A link, unlike a renaming, leaves what another process wrote meanwhile.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{FILE}")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(PREFIX + base64.b64encode(secrets.token_bytes(BYTES)).decode() + "\n")
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.unlink(temporary)
    return _read(path)


def headers_of(secrets_: Sequence[str], delivery: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that identify and sign a call.

    secrets_: each makes a signature.
    delivery: the id, the same in each try of a call; without a full stop.
    timestamp: of this try, in seconds since the epoch.
    body: as it is sent.
    """
    signed = f"{delivery}.{timestamp}.".encode() + body
    digests = [hmac.new(_key(each), signed, hashlib.sha256).digest() for each in secrets_]
    return {
        "webhook-id": delivery,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
    }


def _read(path: Path) -> list[str]:
    try:
        return check_secret(path.read_text()).split()
    except ValueError as error:
        raise ValueError(f"{path}: {error}; delete the file for a new one") from None


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not FEWEST <= len(key) <= MOST:
        raise ValueError(f"a secret is {PREFIX} and then {FEWEST} to {MOST} bytes in base64")
    return key
