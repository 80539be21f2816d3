"""deploy/nginx/tailprune.conf in a real nginx, with a certificate of its own, in front of a real service."""

from __future__ import annotations

import datetime
import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from jobs.settings import Settings
from jobs.store.jobs import JobStore
from tests.condition_files import VIDEO, arrays, npz
from tests.docker.containers import ROOT
from tests.redis_process import free_port
from tests.service.conftest import REQUEST
from tests.service.server import eventually, running_service

NAME = "tailprune.example.org"
CONFIGURATION = ROOT / "deploy" / "nginx" / "tailprune.conf"
NGINX = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
SURROUNDINGS = """
daemon off;
master_process off;
error_log stderr;
pid nginx.pid;
events {}
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  include tailprune.conf;
}
"""

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is neither on the PATH nor in /usr/sbin")


def write_certificate(folder: Path) -> Path:
    """A certificate that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "fullchain.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "privkey.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *private))
    return folder / "fullchain.pem"


class Published:
    """The service behind nginx: two ports, and a client that trusts the certificate."""

    def __init__(self, plain: int, encrypted: int, certificate: Path) -> None:
        self.plain, self.encrypted, self.certificate = plain, encrypted, certificate
        self.http = httpx.Client(
            base_url=f"https://127.0.0.1:{encrypted}",
            verify=ssl.create_default_context(cafile=str(certificate)),
            headers={"Host": NAME},
            trust_env=False,
            timeout=60.0,
        )

    def request(self, method: str, path: str, **content: object) -> httpx.Response:
        """A request by the name of the certificate."""
        return self.http.request(method, path, extensions={"sni_hostname": NAME}, **content)  # type: ignore[arg-type]


@pytest.fixture
def published(processes: None, settings: Settings, store: JobStore, tmp_path: Path) -> Iterator[Published]:
    folder = tmp_path / "nginx"
    folder.mkdir()
    plain, encrypted = free_port(), free_port()
    certificate = write_certificate(folder)
    with running_service(settings, tmp_path, TAILPRUNE_ALLOWED_HOSTS=NAME, TAILPRUNE_OPEN="true") as service:
        text = CONFIGURATION.read_text()
        for ours, theirs in (
            ("127.0.0.1:8000", httpx.URL(service.url).netloc.decode()),
            ("listen 80;", f"listen 127.0.0.1:{plain};"),
            ("listen 443 ssl", f"listen 127.0.0.1:{encrypted} ssl"),
            ("/etc/ssl/tailprune/", f"{folder}/"),
        ):
            assert ours in text
            text = text.replace(ours, theirs)
        (folder / "tailprune.conf").write_text(text)
        (folder / "nginx.conf").write_text(SURROUNDINGS)
        command = [str(NGINX), "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        here = Published(plain, encrypted, certificate)

        def answers() -> bool:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                return here.request("GET", "/health/live").is_success
            except httpx.TransportError:
                return False

        try:
            eventually(answers, "nginx answers")
            yield here
        finally:
            here.http.close()
            process.terminate()
            process.wait(10)


def test_the_service_behind_tls(published: Published) -> None:
    moved = httpx.get(f"http://127.0.0.1:{published.plain}/jobs?limit=1", headers={"Host": NAME}, trust_env=False)
    assert (moved.status_code, moved.headers["Location"]) == (301, f"https://{NAME}/jobs?limit=1")

    answer = published.request("GET", "/models")
    assert answer.is_success
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=")

    posted = published.request("POST", "/prune-sample", json=REQUEST)
    assert posted.status_code == 202

    # Events come as they happen: this stream has no end, as no worker does the job.
    events = f"/jobs/{posted.json()['id']}/events"
    with published.http.stream("GET", events, extensions={"sni_hostname": NAME}) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        assert next(stream.iter_lines()) == "event: status"

    waited = published.request("POST", "/prune-sample", json=REQUEST, headers={"Prefer": "wait=1"})
    assert waited.headers["Preference-Applied"] == "wait=1"

    curl = shutil.which("curl")
    if curl is not None and "HTTP2" in subprocess.run([curl, "--version"], capture_output=True, text=True).stdout:
        to = ["--resolve", f"{NAME}:{published.encrypted}:127.0.0.1", "--cacert", str(published.certificate)]
        form = ["--silent", "--output", "/dev/null", "--write-out", "%{http_version} %{http_code}", "--noproxy", "*"]
        url = f"https://{NAME}:{published.encrypted}/health/live"
        done = subprocess.run([curl, "--http2", *to, *form, url], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "2 200")


def test_bodies_may_be_as_large_behind_tls_as_the_service_takes_them(published: Published) -> None:
    content = npz(arrays(VIDEO))
    assert published.request("POST", "/conditions", content=content).status_code == 201

    def chunks() -> Iterator[bytes]:
        for _ in range(3):
            yield bytes(2**20)

    assert published.request("POST", "/conditions", content=chunks()).status_code == 422  # the service has read it
    assert published.request("POST", "/prune-sample", content=bytes(2**20 + 1)).status_code == 413
