"""The hosts that webhooks may call, as a setting names them, and the addresses that these may have.

A URL is checked when it is requested, and again, with every address of its host, when it is called. It has to be
written in the one plain way that every parser reads alike: an address as a decimal number, a zone, an escape or a user
in it is refused, rather than understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

__all__ = ["MOST_CHARACTERS", "Address", "Endpoint", "HostRule", "check_hosts", "endpoint_of", "host_rules", "shown"]

Address = IPv4Address | IPv6Address

MOST_CHARACTERS = 1500
"""The longest URL of a webhook."""
PORTS = {"https": 443, "http": 80}
LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
NAME = re.compile(rf"(?:{LABEL}\.)*{LABEL}")
NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
"""What some parsers read as an IPv4 address: the last part is a number."""
URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/(?:[a-z0-9._~!$&'()*+,;=:@/-]|%[0-9a-f]{2})*)?"
    r"(?P<query>\?(?:[a-z0-9._~!$&'()*+,;=:@/?-]|%[0-9a-f]{2})*)?",
    re.IGNORECASE | re.ASCII,
)
RULE = re.compile(
    r"(?P<private>private:)?(?:(?P<scheme>https?)://)?(?P<any>\*\.)?(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)"
    r"(?::(?P<port>[0-9]{1,5}))?",
    re.ASCII,
)
LOCAL = (
    tuple(map(IPv4Network, ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))),
    tuple(map(IPv6Network, ("::1/128", "fc00::/7"))),
)
"""The addresses of a machine itself and of private networks, of IPv4 and IPv6."""
RESERVED = (
    tuple(map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24"))),
    (IPv6Network("3fff::/20"),),
)
"""Networks that not every version of Python knows to be reserved."""
UNICAST = IPv6Network("2000::/3")
NAT64 = IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48")
COMPATIBLE = IPv6Network("::/96")


@dataclass(frozen=True)
class HostRule:
    """One entry of the setting: what may be called."""

    scheme: str
    host: str
    """A name in lower case, or an address."""
    port: int
    is_domain: bool = False
    """Whether it means all names below `host`, and not `host` itself."""
    is_private: bool = False
    """Whether its names may have addresses of this machine and of private networks."""

    @cached_property
    def address(self) -> Address | None:
        """The address that it is; None for a name."""
        return _literal(self.host)

    def covers(self, scheme: str, host: str, port: int) -> bool:
        """Whether a URL of this scheme, host and port may be called."""
        if (scheme, port) != (self.scheme, self.port):
            return False
        if self.address is not None:
            return _literal(host) == self.address
        return host.endswith(f".{self.host}") if self.is_domain else host == self.host


@dataclass(frozen=True)
class Endpoint:
    """Where a URL leads to, and the entries of the setting that permit it."""

    url: str
    scheme: str
    host: str
    """A name in lower case, or an address without brackets."""
    port: int
    rules: tuple[HostRule, ...]

    @property
    def authority(self) -> str:
        """Host and port as the header `Host` has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    def refusal(self, address: Address) -> str | None:
        """Why the host may not be called at this address, one of those that it has; None if it may."""
        if any(rule.address == address for rule in self.rules):
            return None  # the setting names this very address
        kind = _kind(address)
        if kind == "public" or (kind == "private" and any(rule.is_private for rule in self.rules)):
            return None
        hint = f"; where it should be called, name it as private:{self.host}" if kind == "private" else ""
        return f"{self.host} has a {kind} address, which is never called{hint}"


def host_rules(setting: str) -> tuple[HostRule, ...]:
    """The entries of the setting, separated by commas. Raises ValueError for one that is none."""
    return tuple(map(_rule, filter(None, map(str.strip, setting.split(",")))))


def check_hosts(setting: str) -> str:
    """The setting itself. Raises ValueError."""
    host_rules(setting)
    return setting


def _rule(entry: str) -> HostRule:
    found = RULE.fullmatch(entry.lower())
    if found is None:
        raise ValueError(
            f"{entry!r} names no host: write hooks.example.com, *.example.com, hooks.example.com:8443, "
            "http://hooks.example.com, an address such as 192.0.2.7 or [2001:db8::7], or private:receiver"
        )
    host = found["host"].strip("[]")
    literal = _literal(host)
    if not _is_host(found["host"]):
        raise ValueError(f"{host!r} in {entry!r} is neither the name of a host nor an address in the usual form")
    if literal is not None and (found["any"] or found["private"]):
        raise ValueError(f"{entry!r} names an address: write it alone; it may be private in any case")
    if literal is not None and (literal.is_unspecified or literal.is_multicast):
        raise ValueError(f"{host} in {entry!r} is the address of no host")
    scheme = found["scheme"] or "https"
    port = int(found["port"] or PORTS[scheme])
    if not 0 < port < 2**16:
        raise ValueError(f"the port of {entry!r} is not from 1 to 65535")
    return HostRule(scheme, host, port, bool(found["any"]), bool(found["private"]))


def endpoint_of(url: str, rules: Iterable[HostRule]) -> Endpoint:
    """Where a URL leads to. Raises ValueError, with a reason that repeats no query, for one that may not be called.

    url: as a client wrote it.
    rules: what may be called; none where webhooks are off.
    """
    rules = tuple(rules)
    if not rules:
        raise ValueError(
            "webhooks are off: whoever runs the service turns them on with TAILPRUNE_WEBHOOK_HOSTS, which names the "
            "hosts that may be called, such as hooks.example.com; without, follow the events of the job"
        )
    found = URL.fullmatch(url)
    if found is None or len(url) > MOST_CHARACTERS:
        raise ValueError(_fault(url))
    scheme, host = found["scheme"].lower(), found["host"].lower().strip("[]")
    port = int(found["port"] or PORTS[scheme])
    if not 0 < port < 2**16:
        raise ValueError("its port is not from 1 to 65535")
    if not _is_host(found["host"].lower()):
        raise ValueError(
            "its host is neither a name nor an address in the usual form, such as hooks.example.com, 192.0.2.7 or "
            "[2001:db8::7]; an address as one number, in hexadecimal or octal, or with fewer than four parts is "
            "refused, and so is a name with a dot at its end"
        )
    covering = tuple(rule for rule in rules if rule.covers(scheme, host, port))
    if not covering:
        raise ValueError(
            f"{scheme}://{host if ':' not in host else f'[{host}]'}:{port} is not among the hosts that may be called; "
            "whoever runs the service names them in TAILPRUNE_WEBHOOK_HOSTS (https alone, unless with http://, and the "
            "usual port, unless with another)"
        )
    return Endpoint(url, scheme, host, port, covering)


def shown(url: str) -> str:
    """A URL as logs and other clients see it: without its query, which may hold a secret."""
    return url.partition("?")[0]


def _fault(url: str) -> str:
    """What is wrong with a text that is not such a URL."""
    if len(url) > MOST_CHARACTERS:
        return f"it has {len(url)} characters; a URL may have {MOST_CHARACTERS}"
    if not url.isascii():
        return "it has letters beyond ASCII: write a name as DNS has it (xn--…), and percent-encode the rest"
    try:
        parts = urlsplit(url)
        authority = parts.netloc
    except ValueError:
        return "it is no URL, such as https://hooks.example.com/tailprune"
    if parts.scheme not in PORTS:
        return "its scheme is not https (or http, where the host is named so)"
    if "@" in authority:
        return "it has a user or a password, which is not supported: put a secret into the query, or check signatures"
    if "#" in url:
        return "it has a fragment, which is never sent; leave out what follows #"
    return "it is no URL in its plain form, such as https://hooks.example.com/tailprune"


def _is_host(text: str) -> bool:
    """Whether a text in lower case is a name, an IPv4 address, or an IPv6 address in brackets."""
    literal = _literal(text.strip("[]"))
    if literal is not None or "[" in text:
        return literal is not None and (literal.version == 6) == ("[" in text)
    return len(text) <= 253 and NAME.fullmatch(text) is not None and NUMERIC.fullmatch(text) is None


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _kind(address: Address) -> str:
    """`public`, `private` for one of this machine or of a private network, or what else the address is."""
    kinds = {_kind_of_one(each) for each in _meant(address)}
    for kind in ("multicast", "unspecified", "link-local", "reserved", "private"):
        if kind in kinds:
            return kind
    return "public"


def _meant(address: Address) -> Iterator[Address]:
    """An address, and the IPv4 addresses in it, to which gateways translate it."""
    if isinstance(address, IPv4Address):
        yield address
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
        return
    yield address
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    is_compatible = address in COMPATIBLE and int(address) > 1
    if is_compatible or any(address in network for network in NAT64):
        yield IPv4Address(int(address) & 0xFFFFFFFF)


def _kind_of_one(address: Address) -> str:
    if address.is_multicast:
        return "multicast"
    if address.is_unspecified:
        return "unspecified"
    if address.is_link_local:
        return "link-local"
    if any(address in network for network in LOCAL[address.version == 6]):
        return "private"
    if address.version == 6 and address in NAT64[0]:
        return "public"  # what it is translated to decides
    if not address.is_global or address.is_reserved or any(address in each for each in RESERVED[address.version == 6]):
        return "reserved"
    if address.version == 6 and address not in UNICAST:
        return "reserved"
    return "public"
