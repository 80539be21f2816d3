"""Which URLs webhooks may call, and at which addresses: whatever is not plainly permitted is refused."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.webhooks.hosts import MOST_CHARACTERS, check_hosts, endpoint_of, host_rules, shown

HOSTS = (
    "hooks.example.com, *.wild.example.com, ports.example.com:8443, http://plain.example.com, "
    "private:http://receiver:9000, 127.0.0.1:8080, [::1], xn--bcher-kva.example, under_score.example.com"
)
RULES = host_rules(HOSTS)
HOOKS = "https://hooks.example.com"


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        (HOOKS, "hooks.example.com"),
        (f"{HOOKS}/", "hooks.example.com"),
        (f"{HOOKS}:443/a/b?token=%20x&y=/?", "hooks.example.com"),
        ("HTTPS://Hooks.Example.COM/Path", "hooks.example.com"),
        ("https://a.wild.example.com", "a.wild.example.com"),
        ("https://a.b.wild.example.com", "a.b.wild.example.com"),
        ("https://ports.example.com:8443/", "ports.example.com:8443"),
        ("http://plain.example.com/", "plain.example.com"),
        ("http://receiver:9000/", "receiver:9000"),
        ("https://127.0.0.1:8080/", "127.0.0.1:8080"),
        ("https://[::1]/", "[::1]"),
        ("https://[0:0:0:0:0:0:0:1]/", "[0:0:0:0:0:0:0:1]"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example"),
        ("https://under_score.example.com/", "under_score.example.com"),
    ],
)
def test_a_host_that_is_named_may_be_called(url: str, authority: str) -> None:
    assert endpoint_of(url, RULES).authority == authority


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        # another host, scheme or port than those named
        ("https://example.com/", "not among the hosts"),
        ("https://hooks.example.com.evil.org/", "not among the hosts"),
        ("https://evilhooks.example.com/", "not among the hosts"),
        ("https://wild.example.com/", "not among the hosts"),
        ("https://evilwild.example.com/", "not among the hosts"),
        ("https://sub.hooks.example.com/", "not among the hosts"),
        ("http://hooks.example.com/", "not among the hosts"),
        ("https://plain.example.com/", "not among the hosts"),
        (f"{HOOKS}:8443/", "not among the hosts"),
        ("https://ports.example.com/", "not among the hosts"),
        ("https://127.0.0.1/", "not among the hosts"),
        ("https://127.0.0.2:8080/", "not among the hosts"),
        ("https://[::ffff:127.0.0.1]:8080/", "not among the hosts"),
        ("https://[::2]/", "not among the hosts"),
        ("https://localhost:8080/", "not among the hosts"),
        # schemes
        ("ftp://hooks.example.com/", "its scheme"),
        ("file:///etc/passwd", "its scheme"),
        ("gopher://hooks.example.com/_x", "its scheme"),
        ("//hooks.example.com/", "its scheme"),
        ("hooks.example.com", "its scheme"),
        ("javascript:alert(1)", "its scheme"),
        ("", "its scheme"),
        # users, fragments, and what looks like them
        ("https://user@hooks.example.com/", "a user or a password"),
        ("https://user:word@hooks.example.com/", "a user or a password"),
        ("https://hooks.example.com@evil.org/", "a user or a password"),
        ("https://hooks.example.com:443@evil.org/", "a user or a password"),
        (f"{HOOKS}/#part", "a fragment"),
        (f"{HOOKS}#@evil.org/", "a fragment"),
        # forms that parsers read differently
        ("https://hooks.example.com\\@evil.org/", "a user or a password"),
        ("https://hooks.example.com\\.evil.org/", "plain form"),
        ("https:\\\\hooks.example.com/", "plain form"),
        ("https:hooks.example.com/", "plain form"),
        ("https:///hooks.example.com/", "plain form"),
        ("https://hooks.example.com /", "plain form"),
        (" https://hooks.example.com/", "plain form"),
        ("https://hooks.example.com/\n", "plain form"),
        ("https://hooks.example.com/\r\nX: y", "plain form"),
        ("https://hooks.example.com/\tx", "plain form"),
        ("https://hooks.example.com/\x00", "plain form"),
        ("https://hooks.example.com/%zz", "plain form"),
        ("https://hooks%2eexample.com/", "plain form"),
        ("https://hooks.example.com:/", "plain form"),
        ("https://hooks.example.com:+443/", "plain form"),
        ("https://hooks.example.com:0443/", None),
        ("https://hooks.example.com:0/", "port"),
        ("https://hooks.example.com:65536/", "port"),
        ("https://hooks.example.com:99999999999999999999/", "plain form"),
        ("https://hooks.example.com:443:443/", "plain form"),
        ("https://[::1%25eth0]/", "plain form"),
        ("https://[::1%eth0]/", "plain form"),
        ("https://[::1/", "no URL"),
        ("https://[127.0.0.1]:8080/", "neither a name nor an address"),
        ("https://[v1.x]/", "no URL"),
        ("https://[:::1]/", "no URL|neither a name"),
        # names and addresses in odd forms
        ("https://hooks.example.com./", "neither a name nor an address"),
        ("https://hooks..example.com/", "neither a name nor an address"),
        ("https://.hooks.example.com/", "neither a name nor an address"),
        ("https://-.wild.example.com/", "neither a name nor an address"),
        (f"https://{'a' * 64}.wild.example.com/", "neither a name nor an address"),
        (f"https://{'a.' * 130}wild.example.com/", "neither a name nor an address"),
        ("https://2130706433:8080/", "neither a name nor an address"),
        ("https://0x7f000001:8080/", "neither a name nor an address"),
        ("https://0x7f.0.0.1:8080/", "neither a name nor an address"),
        ("https://127.0.0.0x1:8080/", "neither a name nor an address"),
        ("https://0177.0.0.1:8080/", "neither a name nor an address"),
        ("https://127.1:8080/", "neither a name nor an address"),
        ("https://127.0.0.1.:8080/", "neither a name nor an address"),
        ("https://127.0.0.01:8080/", "neither a name nor an address"),
        ("https://256.0.0.1:8080/", "neither a name nor an address"),
        ("https://0x:8080/", "neither a name nor an address"),
        ("https://bücher.example/", "beyond ASCII"),
        ("https://hooks。example。com/", "beyond ASCII"),
        ("https://ⓗooks.example.com/", "beyond ASCII"),
        (f"{HOOKS}/ü", "beyond ASCII"),
        (f"{HOOKS}/{'a' * MOST_CHARACTERS}", "characters"),
    ],
)
def test_what_is_not_named_or_not_plain_is_refused(url: str, reason: str | None) -> None:
    if reason is None:  # a zero before a port is read by all alike
        assert endpoint_of(url, RULES).port == 443
        return
    with pytest.raises(ValueError, match=reason):
        endpoint_of(url, RULES)


def test_a_refusal_repeats_no_query() -> None:
    for url in ("https://evil.org/?token=hidden", "https://user@hooks.example.com/?token=hidden", "x://y?token=hidden"):
        with pytest.raises(ValueError, match=r"^(it|http)") as caught:
            endpoint_of(url, RULES)
        assert "hidden" not in str(caught.value)


def test_without_hosts_nothing_may_be_called_and_the_setting_is_named() -> None:
    with pytest.raises(ValueError, match="turns them on with TAILPRUNE_WEBHOOK_HOSTS"):
        endpoint_of(HOOKS, host_rules(" , "))


@given(st.text(max_size=60) | st.from_regex(r"https?://[ -~]{0,40}", fullmatch=True))
def test_whatever_is_taken_is_read_alike_by_other_parsers(url: str) -> None:
    try:
        endpoint = endpoint_of(url, host_rules("*.example.com, hooks, 127.0.0.1, http://a.b:1"))
    except ValueError:
        return
    for parsed in (urlsplit(url), httpx.URL(url)):
        host = parsed.hostname if not isinstance(parsed, httpx.URL) else parsed.host
        assert (host, parsed.port or 443) == (endpoint.host, endpoint.port)


@given(st.from_regex(r"https://([a-z0-9.x-]{1,12}|\[[0-9a-f:.]{2,12}\])(:[0-9]{1,6})?/[a-z?]{0,3}", fullmatch=True))
def test_no_address_hides_in_a_name(url: str) -> None:
    host = (urlsplit(url.replace("[", "").replace("]", "")).hostname or "") if "[" not in url else ""
    try:
        endpoint = endpoint_of(url, host_rules(f"{host or 'x'}, *.x"))
    except ValueError:
        return
    try:
        ip_address(endpoint.host)
    except ValueError:
        with pytest.raises(
            OSError, match="illegal"
        ):  # inet_aton reads every form of an address that the machine's resolver does
            socket.inet_aton(endpoint.host)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("https://", "names no host"),
        ("*", "names no host"),
        ("*.", "names no host"),
        ("a.*.com", "names no host"),
        ("hooks.example.com/path", "names no host"),
        ("user@hooks.example.com", "names no host"),
        ("ftp://hooks.example.com", "names no host"),
        ("bücher.example", "names no host"),
        ("10.0.0.0/8", "names no host"),
        ("[fe80::1%eth0]", "names no host"),
        ("::1", "names no host|neither the name"),
        ("hooks.example.com.", "neither the name"),
        ("2130706433", "neither the name"),
        ("127.1", "neither the name"),
        ("[127.0.0.1]", "neither the name"),
        ("*.127.0.0.1", "write it alone"),
        ("private:127.0.0.1", "write it alone"),
        ("0.0.0.0", "the address of no host"),
        ("[::]", "the address of no host"),
        ("224.0.0.1", "the address of no host"),
        ("hooks.example.com:0", "port"),
        ("hooks.example.com:65536", "port"),
    ],
)
def test_an_entry_that_is_no_host_is_refused(entry: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_hosts(f"good.example.com, {entry}")


PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::"]
PRIVATE = [
    "127.0.0.1", "127.255.255.254", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
    "100.100.100.200", "::1", "fc00::1", "fd00:ec2::254", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a00:1", "2002:7f00:1::", "2002:c0a8:101::1",
]  # fmt: skip
NEVER = [
    "0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.0.1", "224.0.0.1", "239.255.255.250", "240.0.0.1",
    "255.255.255.255", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.0.0.1", "192.88.99.1", "::",
    "fe80::1", "fe80::1%1", "ff02::1", "fec0::1", "100::1", "2001:db8::1", "3fff::1", "4000::1", "::127.0.0.1",
    "::8.8.8.8", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1",
    "2002:a9fe:a9fe::", "2002:e000:1::", "2001:0:7f00:1::1", "2001:0:808:808::f7f7:f7f7",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_called(address: str) -> None:
    assert endpoint_of(HOOKS, RULES).refusal(ip_address(address)) is None


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_may_be_called_only_where_its_name_is_named_as_private(address: str) -> None:
    refusal = endpoint_of(HOOKS, RULES).refusal(ip_address(address))
    assert refusal is not None
    assert "name it as private:hooks.example.com" in refusal
    assert endpoint_of("http://receiver:9000", RULES).refusal(ip_address(address)) is None


@pytest.mark.parametrize("address", NEVER)
def test_an_address_that_is_neither_is_never_called(address: str) -> None:
    for url in (HOOKS, "http://receiver:9000"):
        assert endpoint_of(url, RULES).refusal(ip_address(address)) is not None


def test_an_address_that_the_setting_names_may_be_called_whatever_it_is() -> None:
    assert endpoint_of("https://127.0.0.1:8080", RULES).refusal(ip_address("127.0.0.1")) is None
    rules = host_rules("http://169.254.169.254")
    assert endpoint_of("http://169.254.169.254/", rules).refusal(ip_address("169.254.169.254")) is None


@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_is_judged_alike_in_every_ipv6_address_that_carries_it(number: int) -> None:
    endpoint = endpoint_of(HOOKS, RULES)
    alone = endpoint.refusal(IPv4Address(number)) is None
    assert (endpoint.refusal(IPv6Address((0xFFFF << 32) + number)) is None) == alone
    assert (endpoint.refusal(IPv6Address((0x64FF9B << 96) + number)) is None) == alone
    if not alone:
        assert endpoint.refusal(IPv6Address((0x2002 << 112) + (number << 80) + 1)) is not None


def test_a_url_is_shown_without_its_query() -> None:
    assert shown(f"{HOOKS}/path?token=secret?more") == f"{HOOKS}/path"
