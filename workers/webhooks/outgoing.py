"""One HTTP request to a URL of a client, which is made to an address that was checked, and to no other.

The name of the host is resolved once. Were it resolved for the check and again for the connection, whoever runs its
name server could answer the second time with an address of this network.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from ipaddress import ip_address

import anyio
import anyio.to_thread
import certifi
import httpx

from jobs.webhooks.hosts import Address, Endpoint

__all__ = ["CONNECT_SECONDS", "WHOLE_SECONDS", "Answer", "Resolve", "post", "resolve"]

CONNECT_SECONDS = 5.0
WHOLE_SECONDS = 10.0
"""How long a call may take, from the name of its host to the head of the answer."""
MOST_ADDRESSES = 4
"""How many addresses of a host are tried."""

for _library in ("httpx", "httpcore"):
    logging.getLogger(_library).setLevel(logging.WARNING)  # at lower levels they log URLs with their queries

Resolve = Callable[[str, int], Sequence[Address]]
"""The addresses of a host, by its name and a port. Raises OSError."""


@dataclass(frozen=True)
class Answer:
    """What came of a request."""

    status: int | None = None
    """The HTTP status; None where there was no answer."""
    fault: str = ""
    """What failed; empty for an answer of 2xx."""
    retry_after: float | None = None
    """For how many seconds the receiver asks to be left alone."""

    @property
    def is_good(self) -> bool:
        """Whether the receiver took it."""
        return self.status is not None and 200 <= self.status < 300


def resolve(host: str, port: int) -> Sequence[Address]:
    """The addresses of a host, as the machine finds them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(address[0]) for *_, address in found))


def post(endpoint: Endpoint, headers: Mapping[str, str], body: bytes, resolve: Resolve = resolve) -> Answer:
    """POST to a URL, without following redirects, through no proxy, and reading no more than the head of the answer.

    endpoint: the URL, and what permits it.
    headers: besides those of every request.
    body: what is sent.
    resolve: finds the addresses of the host; is called once.
    """
    return anyio.run(_post, endpoint, headers, body, resolve)


async def _post(endpoint: Endpoint, headers: Mapping[str, str], body: bytes, resolve: Resolve) -> Answer:
    try:
        with anyio.fail_after(WHOLE_SECONDS):
            addresses = await anyio.to_thread.run_sync(resolve, endpoint.host, endpoint.port, abandon_on_cancel=True)
            for address in addresses:
                if refusal := endpoint.refusal(address):
                    return Answer(fault=refusal)
            return await _post_to(endpoint, addresses[:MOST_ADDRESSES], headers, body)
    except TimeoutError:
        return Answer(fault=f"there was no answer within {WHOLE_SECONDS:g} seconds")
    except (OSError, UnicodeError) as error:  # of the resolver; names that IDNA cannot encode are a UnicodeError
        return Answer(fault=f"the name {endpoint.host} cannot be resolved: {_reason(error)}")


async def _post_to(endpoint: Endpoint, addresses: Sequence[Address], headers: Mapping[str, str], body: bytes) -> Answer:
    fault = f"{endpoint.host} has no address"
    limits = httpx.Timeout(WHOLE_SECONDS, connect=CONNECT_SECONDS)
    async with httpx.AsyncClient(verify=_trusted(), trust_env=False, timeout=limits) as client:
        for address in addresses:
            request = client.build_request(
                "POST",
                httpx.URL(endpoint.url).copy_with(host=str(address)),
                content=body,
                headers={"Host": endpoint.authority, **headers},
                extensions={"sni_hostname": endpoint.host},  # the certificate is checked for it, too
            )
            try:
                answer = await client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                fault = f"no connection: {_reason(error)}"
                continue
            except (httpx.HTTPError, httpx.StreamError) as error:
                return Answer(fault=f"the connection broke: {_reason(error)}")
            await answer.aclose()
            return _answer(answer)
    return Answer(fault=fault)


def _answer(answer: httpx.Response) -> Answer:
    status = answer.status_code
    if answer.is_success:
        return Answer(status)
    hint = "; redirects are not followed: name the URL that it leads to" if answer.has_redirect_location else ""
    return Answer(status, f"the answer was {status}{hint}", _retry_after(answer.headers.get("Retry-After", "")))


def _retry_after(text: str) -> float | None:
    """The seconds that `Retry-After` asks for, as a number or as a date."""
    if text.isascii() and text.isdecimal():
        return float(text[:12])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


@lru_cache(maxsize=1)
def _trusted() -> ssl.SSLContext:
    """The authorities of the machine, to which its administrator may have added one, and those of certifi."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _reason(error: BaseException) -> str:
    """Why a request failed, in a few words that repeat nothing of its URL."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"no TLS: {(cause.reason or 'an error').lower().replace('_', ' ')}"
        if isinstance(cause, socket.gaierror):
            return str(cause.strerror).lower()
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno).lower()
        cause = cause.__cause__ or cause.__context__
    return "it took too long" if isinstance(error, httpx.TimeoutException) else type(error).__name__
