"""One call: made to the address that was checked and to no other, and bounded in all that a receiver may do."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from email.utils import format_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from jobs.webhooks.hosts import Address, Endpoint, endpoint_of, host_rules
from tests.workers.webhooks.receiver import Receiver, receiver
from workers.webhooks import outgoing
from workers.webhooks.outgoing import Answer, post

NAME = "receiver.test"


@pytest.fixture
def there() -> Iterator[Receiver]:
    """A receiver."""
    with receiver() as running:
        yield running


class Names:
    """A resolver with one answer after the other, the last of them for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> list[Address]:
        self.asked.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [ip_address(each) for each in answer]


def endpoint(url: str, hosts: str) -> Endpoint:
    return endpoint_of(url, host_rules(hosts))


def private(there: Receiver, path: str = "/") -> Endpoint:
    """The receiver by a name that is named as private."""
    return endpoint(f"http://{NAME}:{there.port}{path}", f"private:http://{NAME}:{there.port}")


def sent(to: Endpoint, names: Names | None = None) -> Answer:
    return post(to, {"webhook-id": "1"}, b"{}", names or Names(["127.0.0.1"]))


def test_the_request_has_the_host_of_the_url_and_its_path_and_query(there: Receiver) -> None:
    assert sent(private(there, "/hook/%20?token=a%2Fb&x")) == Answer(204)
    (request,) = there.received
    assert request.path == "/hook/%20?token=a%2Fb&x"
    assert request.headers["host"] == f"{NAME}:{there.port}"
    assert request.headers["webhook-id"] == "1"
    assert request.body == b"{}"


def test_the_name_is_resolved_once_and_the_connection_made_to_what_was_checked(
    there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unexpected(*arguments: Any, **_: Any) -> None:
        raise AssertionError(f"a second resolution: {arguments}")

    monkeypatch.setattr(socket, "getaddrinfo", unexpected)
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    assert sent(private(there), names).is_good
    assert names.asked == [NAME]


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"]])
def test_a_name_that_resolves_to_this_machine_is_not_called(there: Receiver, addresses: list[str]) -> None:
    to = endpoint(f"http://{NAME}:{there.port}/", f"http://{NAME}:{there.port}")
    answer = sent(to, Names(addresses))
    assert answer.status is None
    assert answer.fault.startswith(f"{NAME} has a private address, which is never called")
    assert there.received == []


def test_a_name_that_is_public_when_it_is_looked_up_again_was_refused_the_first_time(there: Receiver) -> None:
    to = endpoint(f"http://{NAME}:{there.port}/", f"http://{NAME}:{there.port}")
    names = Names(["127.0.0.1"], ["8.8.8.8"])
    assert "private" in sent(to, names).fault
    assert names.asked == [NAME]


def test_the_next_address_is_tried_where_one_takes_no_connection(there: Receiver) -> None:
    assert sent(private(there), Names(["127.0.0.9", "127.0.0.1"])).is_good


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(there: Receiver, status: int) -> None:
    with receiver() as secret:
        there.answer = lambda _: (status, {"Location": f"{secret.url}/metadata"})
        answer = sent(private(there))
        assert answer.status == status
        assert answer.fault == f"the answer was {status}; redirects are not followed: name the URL that it leads to"
        assert secret.received == []
    assert len(there.received) == 1


def test_proxies_and_credentials_of_the_environment_are_ignored(
    there: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    (tmp_path / "netrc").write_text(f"machine {NAME} login me password secret\nmachine 127.0.0.1 login me password x\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert sent(private(there)).is_good
    assert "authorization" not in there.received[0].headers


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("30", 30.0), ("0", 0.0), ("soon", None), ("-5", None), ("٣", None), ("9" * 400, 999999999999.0)],
)
def test_what_a_receiver_asks_for_is_read(header: str, seconds: float | None) -> None:
    assert outgoing._retry_after(header) == seconds
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=90)
    assert outgoing._retry_after(format_datetime(later, usegmt=True)) == pytest.approx(90, abs=5)


@pytest.fixture
def hanging() -> Iterator[threading.Event]:
    """Set when the test is over."""
    over = threading.Event()
    yield over
    over.set()


def raw(answer: bytes, over: threading.Event, *, repeats: bool = False) -> Endpoint:
    """A receiver whose first client is sent these bytes, once or for ever, and then nothing until the test is over."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listening.accept()
        with listening, connection:
            connection.recv(65536)
            with contextlib.suppress(OSError):  # the client has left
                connection.sendall(answer)
                while repeats and not over.wait(0.01):
                    connection.sendall(answer)
            over.wait(30)

    threading.Thread(target=serve, daemon=True).start()
    port = listening.getsockname()[1]
    return endpoint(f"http://127.0.0.1:{port}/", f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("drips", [False, True], ids=["silent", "dripping"])
def test_a_receiver_that_does_not_answer_is_left_after_a_while(
    hanging: threading.Event, monkeypatch: pytest.MonkeyPatch, drips: bool
) -> None:
    monkeypatch.setattr(outgoing, "WHOLE_SECONDS", 0.5)
    to = raw(b"H", hanging) if not drips else raw(b"HTTP/1.1 200 OK\r\nX: ", hanging, repeats=True)
    assert sent(to).fault == "there was no answer within 0.5 seconds"


def test_a_name_server_that_does_not_answer_is_left_after_a_while(
    hanging: threading.Event, monkeypatch: pytest.MonkeyPatch, there: Receiver
) -> None:
    monkeypatch.setattr(outgoing, "WHOLE_SECONDS", 0.2)

    def silent(host: str, port: int) -> list[Address]:
        hanging.wait(30)
        return []

    assert post(private(there), {}, b"{}", silent).fault == "there was no answer within 0.2 seconds"


def test_an_endless_body_is_not_read(hanging: threading.Event) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"5\r\nabcde\r\n" * 1000
    assert sent(raw(head, hanging, repeats=True)) == Answer(200)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "the connection broke: RemoteProtocolError"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 300_000, "the connection broke: RemoteProtocolError"),
        (b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", "the answer was 999"),
        (b"HTTP/1.1 404 No\r\nRetry-After: 7\r\n\r\n", "the answer was 404"),
    ],
)
def test_an_answer_that_is_none_is_a_failure(hanging: threading.Event, answer: bytes, fault: str) -> None:
    assert sent(raw(answer, hanging)).fault == fault


def test_where_nothing_listens_the_reason_says_so() -> None:
    assert sent(endpoint("http://127.0.0.1:1/", "http://127.0.0.1:1")).fault == "no connection: connection refused"


def test_a_name_that_does_not_exist_is_said_to_be_unknown(there: Receiver) -> None:
    def unknown(host: str, port: int) -> list[Address]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    fault = post(private(there), {}, b"{}", unknown).fault
    assert fault == f"the name {NAME} cannot be resolved: name or service not known"
    assert sent(private(there), Names([])).fault == f"{NAME} has no address"


def _certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """The file of an authority's certificate, and a server's context with a certificate of it for a name."""
    now = datetime.datetime.now(datetime.UTC)

    def build(subject: str, key: ec.EllipticCurvePrivateKey, issuer: str) -> x509.CertificateBuilder:
        names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (subject, issuer)]
        builder = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1]).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(1))
        return builder.not_valid_after(now + datetime.timedelta(1))

    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = build("root", root_key, "root").add_extension(x509.BasicConstraints(True, None), critical=True)
    leaf = build(name, key, "root").add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    pem = serialization.Encoding.PEM
    (folder / "root.pem").write_bytes(root.sign(root_key, hashes.SHA256()).public_bytes(pem))
    (folder / "leaf.pem").write_bytes(leaf.sign(root_key, hashes.SHA256()).public_bytes(pem))
    private_format, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(pem, private_format, plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "leaf.pem", folder / "key.pem")
    return folder / "root.pem", context


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver with TLS, whose certificate for NAME is of an authority that the machine trusts."""
    root, context = _certificate(tmp_path, NAME)
    monkeypatch.setenv("SSL_CERT_FILE", str(root))
    outgoing._trusted.cache_clear()
    with receiver(context) as running:
        yield running
    outgoing._trusted.cache_clear()


def test_tls_is_made_and_checked_for_the_name_of_the_url(trusted: Receiver) -> None:
    hosts = f"private:{NAME}:{trusted.port}, private:other.test:{trusted.port}"
    assert sent(endpoint(f"https://{NAME}:{trusted.port}/", hosts)).is_good
    answer = sent(endpoint(f"https://other.test:{trusted.port}/", hosts))
    assert answer.fault.startswith("no connection: its certificate is not accepted: Hostname mismatch")
    assert len(trusted.received) == 1


def test_a_certificate_of_an_unknown_authority_is_refused(trusted: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    outgoing._trusted.cache_clear()
    answer = sent(endpoint(f"https://{NAME}:{trusted.port}/", f"private:{NAME}:{trusted.port}"))
    assert answer.fault.startswith("no connection: its certificate is not accepted: ")
    assert trusted.received == []


def test_no_tls_where_it_was_asked_for_is_a_failure(there: Receiver) -> None:
    answer = sent(endpoint(f"https://{NAME}:{there.port}/", f"private:{NAME}:{there.port}"))
    assert answer.fault.startswith("no connection: no TLS: ")
