"""Which sites a browser may bring a request from, and under which names the service is reached.

A page of any site can have a browser of this machine, or of this network, send requests here. What it may read of the
answers the browser decides (CORS); that nothing is done, and that no name of a stranger leads here, is decided here.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.addresses import is_loopback
from service.problems import MOST_SHOWN, ProblemError, problem_response

__all__ = ["POLICY", "SecureHeaders", "Sites"]

LOCAL_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost")

OF_BROWSERS = frozenset({b"origin", b"sec-fetch-site"})
"""Headers that say from which page a request comes."""
SAFE = ("GET", "HEAD")
STARTING = "/metrics/"
"""What the paths begin with of which a GET may start a job."""
NAMES_KEPT = 256
"""For how many names it is remembered whether they are known."""
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; media-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
REFERENCE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""That of `/docs`, whose page begins with a script of its own."""
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}
"""What every response has, and a policy."""


class SecureHeaders:
    """ASGI middleware: what browsers may do with a response. A route whose page needs more says so itself.

    shared: whether pages of other sites may use the service, so that CORS decides what they see.
    """

    def __init__(self, app: ASGIApp, shared: bool) -> None:
        self.app = app
        self._headers = [*HEADERS.items()]
        if shared:
            self._headers.remove((b"cross-origin-resource-policy", b"same-origin"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_reference = scope["path"].removeprefix(scope["root_path"]).startswith("/docs")
        policy = (b"content-security-policy", (REFERENCE_POLICY if is_reference else POLICY).encode())

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                more = [each for each in (*self._headers, policy) if each[0] not in given]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self.app(scope, receive, send_secured)


class Sites:
    """ASGI middleware: refuses requests under names of others, and those that pages of other sites have sent.

    hosts: names besides those of this machine and the address that a request came to; `*.example.org` is any name under
        example.org, and `*` any name.
    origins: the origins whose pages may send requests.
    """

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...], origins: tuple[str, ...]) -> None:
        self.app = app
        self._hosts = {host.lower().strip("[]") for host in hosts}
        self._suffixes = tuple(host[1:] for host in self._hosts if host.startswith("*."))
        self._origins = {origin.lower() for origin in origins}
        self._known = lru_cache(maxsize=NAMES_KEPT)(self._is_known)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            try:
                hosts = [value for name, value in scope["headers"] if name == b"host"]
                if len(hosts) != 1 or not hosts[0]:
                    detail = f"a request has one header Host; this one has {len(hosts)}"
                    raise ProblemError("malformed-request", detail)
                server = scope.get("server")
                self._check_host(hosts[0].decode("latin-1").lower(), None if server is None else server[0])
                if any(name in OF_BROWSERS for name, _ in scope["headers"]):
                    path = scope["path"].removeprefix(scope["root_path"])
                    self._check_site(Headers(scope=scope), scope["method"], path)
            except ProblemError as error:
                await problem_response(error.problem, error.headers)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _is_known(self, host: str, server: str | None) -> bool:
        """Whether a `Host` names this machine, the address that the request came to, or what the settings name."""
        name = _name_of(host)
        if _is_address(name):
            return is_loopback(name) or name == server or name in self._hosts or "*" in self._hosts
        return name in LOCAL_NAMES or name in self._hosts or "*" in self._hosts or name.endswith(self._suffixes)

    def _check_host(self, host: str, server: str | None) -> None:
        """Raise ProblemError for a name that is none of this service: one that a stranger has pointed here, perhaps."""
        if not self._known(host, server):
            shown = ascii(_name_of(host))[1:-1][:MOST_SHOWN]
            raise ProblemError(
                "foreign-host",
                f"the service is not known as {shown}: use an address of it, or have whoever runs it name it in "
                "TAILPRUNE_ALLOWED_HOSTS",
            )

    def _check_site(self, headers: Headers, method: str, path: str) -> None:
        """Raise ProblemError for a request that a page of another site has sent.

        As Go's http.CrossOriginProtection does: `Sec-Fetch-Site` decides where the browser sends it, which no page can
        forge, and else `Origin`. Programs send neither. A page may lead to an address here, which is a navigation, but
        not have it fetched: a GET may start a job. To where one may, only a person leads who follows a link, and no
        script that opens windows, nor a browser that fetches ahead.
        """
        origin, site = headers.get("origin", "").lower(), headers.get("sec-fetch-site", "")
        if origin in self._origins or site in ("same-origin", "none"):
            return
        if site:
            leads = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
            followed = headers.get("sec-fetch-user") == "?1" and "sec-purpose" not in headers
            if method in SAFE and leads and (followed or not path.startswith(STARTING)):
                return
        elif not origin or origin.partition("://")[2] == headers["host"].lower():
            return
        shown = ascii(origin)[1:-1][:MOST_SHOWN]
        raise ProblemError(
            "foreign-site",
            f"a page of another site{f', {shown},' if shown else ''} has sent this request; whoever runs the service "
            "can let pages of an origin use it with TAILPRUNE_CORS_ORIGINS",
        )


def _name_of(host: str) -> str:
    """The name or address of a `Host` in lower case, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
