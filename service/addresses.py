"""Who asks, by address: whether it is of this machine, and by what a client without a key is known."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.types import Scope

__all__ = ["address_of", "is_local", "is_loopback"]

IPV6_SUBSCRIBER = 64
"""The bits of an IPv6 address by which clients are told apart: who has one address has all that begin with these."""
FORWARDED = frozenset({b"forwarded", b"via", b"x-real-ip"})
FORWARDED_PREFIX = b"x-forwarded-"
"""Headers by which a proxy says for whom it asks, or that it does."""


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
