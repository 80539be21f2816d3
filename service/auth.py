"""Who may do what: the scope that each call needs, and the middleware that checks it."""

from __future__ import annotations

import re
from functools import lru_cache

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.addresses import address_of, is_local
from service.keys import Key, Keys, KeyScope
from service.problems import ProblemError, problem_response

__all__ = ["PROBES", "Access", "check_scope", "scope_of"]

OPEN = re.compile(
    r"/|/favicon\.ico|/health/(live|ready)|/ui(/.*)?|/docs(/.*)?|/static-offline-docs/.*|/openapi\.(json|yaml)"
)
"""What is answered without a key: the probes, and files that are the same at every installation of this version."""
PROBES = ("/health/live", "/health/ready")
"""What is answered to other machines too while there are no keys, and is not counted."""
SUBMITS = ("/prune-sample", "/edit", "/studies", "/compact", "/extract", "/conditions")
OWN = re.compile(r"/(jobs|conditions)/[^/]+")
SAFE = ("GET", "HEAD", "OPTIONS")
MISSING_KEY = (
    "this service needs a key: send it as Authorization: Bearer KEY. Where the service runs, `tailprune keys add NAME "
    "--scope read|submit|admin` makes one"
)
CLOSED = (
    "this service has no keys, and so answers its own machine alone: make a key with `tailprune keys add NAME --scope "
    "read|submit|admin`, where it runs, or set TAILPRUNE_OPEN=true if all who reach it may do everything"
)


def scope_of(method: str, path: str) -> KeyScope | None:
    """The scope that a call needs; None for one that needs no key. What has no entry here needs most.

    method, path: of the request, the path without the prefix of a proxy; or as the contract has them.
    """
    if method in SAFE:
        return None if OPEN.fullmatch(path) else "read"
    if (method == "POST" and path in SUBMITS) or (method == "DELETE" and OWN.fullmatch(path)):
        return "submit"  # of one's own: the route looks whose it is
    return "admin"


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
