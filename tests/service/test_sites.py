"""Names under which the service answers, and requests that pages of other sites have a browser send."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from jobs.records import Job
from jobs.settings import Settings
from jobs.store.jobs import JobStore
from service.app import create_app
from tests.service.conftest import REQUEST, application
from tests.service.keys import OTHER_SITE, bearer, make_keys, operations

FRIEND = "https://friend.example"
NAMES = "tail.example, *.tails.example"


@pytest.fixture
def served(settings: Settings, store: JobStore) -> Callable[..., TestClient]:
    """Makes clients at 127.0.0.1 of applications with other settings."""

    def served(**changes: object) -> TestClient:
        changed = settings.model_copy(update={"allowed_hosts": "", **changes})
        return TestClient(application(changed), base_url="http://127.0.0.1:8000")

    return served


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:8000", 200),
        ("127.0.0.1", 200),
        ("127.1.2.3:80", 200),
        ("localhost:8000", 200),
        ("LOCALHOST", 200),
        ("localhost.:8000", 200),
        ("[::1]:8000", 200),
        ("tail.example", 200),
        ("Tail.Example:443", 200),
        ("a.tails.example", 200),
        ("a.b.tails.example", 200),
        ("tails.example", 421),
        ("eviltails.example", 421),
        ("attacker.example", 421),
        ("127.0.0.1.attacker.example", 421),
        ("localhost.attacker.example", 421),
        ("192.0.2.7", 421),
        ("[2001:db8::7]:80", 421),
        ("127.0.0.1@attacker.example", 421),
        ("attacker.example#127.0.0.1", 421),
        ("", 400),
    ],
)
def test_only_names_of_the_service_are_answered(served: Callable[..., TestClient], host: str, expected: int) -> None:
    with served(allowed_hosts=NAMES) as client:
        answer = client.get("/jobs", headers={"Host": host})
        assert answer.status_code == expected
        if expected == 421:
            assert answer.json()["type"] == "urn:tailprune:problem:foreign-host"
            assert "TAILPRUNE_ALLOWED_HOSTS" in answer.json()["detail"]


def test_the_address_that_a_request_came_to_is_a_name_of_the_service(settings: Settings, store: JobStore) -> None:
    reached = settings.model_copy(update={"open": True, "allowed_hosts": ""})
    with TestClient(create_app(reached), base_url="http://192.0.2.1:8000") as client:
        assert client.get("/jobs").status_code == 200
        assert client.get("/jobs", headers={"Host": "192.0.2.2:8000"}).status_code == 421


def test_any_name_is_answered_where_that_is_set(served: Callable[..., TestClient]) -> None:
    with served(allowed_hosts="*") as client:
        assert client.get("/jobs", headers={"Host": "any.example"}).status_code == 200


CROSS_SITE = [
    {"Origin": OTHER_SITE},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:8001"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "http://localhost:8000"},
    {"Origin": OTHER_SITE, "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:8001"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Origin": OTHER_SITE},
]


@pytest.mark.parametrize("headers", CROSS_SITE, ids=str)
def test_no_call_that_changes_something_is_taken_from_a_page_of_another_site(
    served: Callable[..., TestClient], headers: dict[str, str]
) -> None:
    with served(cors_origins=FRIEND) as client:
        for operation in operations():
            if operation.method != "GET":
                answer = client.request(operation.method, operation.address, headers=headers)
                assert answer.status_code == 403, operation
                assert answer.json()["type"] == "urn:tailprune:problem:foreign-site"
                assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_form_of_another_site_stores_nothing(served: Callable[..., TestClient]) -> None:
    with served() as client:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            headers = {"Origin": OTHER_SITE, "Content-Type": kind}
            assert client.post("/conditions", content=b"x", headers=headers).status_code == 403
        assert client.get("/conditions").json()["conditions"] == []


def test_a_page_of_another_site_has_nothing_fetched_but_may_lead_here(served: Callable[..., TestClient]) -> None:
    picture = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    frame = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    with served() as client:
        path = "/metrics/shapes-sit/figures/removal"
        followed = link | {"Sec-Fetch-User": "?1"}
        for headers in (picture, frame, {"Origin": OTHER_SITE}, link, followed | {"Sec-Purpose": "prefetch"}):
            assert client.get(path, params={"threshold": 0.1}, headers=headers).status_code == 403
        assert client.get("/jobs").json()["jobs"] == [], "no job was started"
        assert client.get("/jobs", headers=link).status_code == 200
        now = followed | {"Prefer": "wait=0"}
        assert client.get(path, params={"threshold": 0.1}, headers=now).status_code == 202, "a person follows a link"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:8000"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://127.0.0.1:8000"},
        {"Origin": "https://127.0.0.1:8000"},
        {"Origin": FRIEND, "Sec-Fetch-Site": "cross-site"},
    ],
    ids=str,
)
def test_programs_the_own_pages_and_named_origins_are_answered(
    served: Callable[..., TestClient], headers: dict[str, str]
) -> None:
    with served(cors_origins=FRIEND) as client:
        assert client.post("/prune-sample", json=REQUEST, headers=headers).status_code == 202


def test_a_named_origin_reads_answers_and_problems_and_is_told_so_before(
    served: Callable[..., TestClient], settings: Settings
) -> None:
    asking = {
        "Origin": FRIEND,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    with served(cors_origins=FRIEND) as client:
        told = client.options("/prune-sample", headers=asking)
        assert told.status_code == 200
        assert told.headers["Access-Control-Allow-Origin"] == FRIEND
        assert "authorization" in told.headers["Access-Control-Allow-Headers"].lower()
        assert client.options("/prune-sample", headers=asking | {"Origin": OTHER_SITE}).status_code == 403
        answer = client.get("/jobs", headers={"Origin": FRIEND})
        assert answer.headers["Access-Control-Allow-Origin"] == FRIEND
        assert "Location" in answer.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in answer.headers
    make_keys(settings, reader="read")
    with served(cors_origins=FRIEND) as client:
        assert client.options("/prune-sample", headers=asking).status_code == 200, "a preflight has no key"
        refused = client.get("/jobs", headers={"Origin": FRIEND})
        assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, FRIEND)


def test_without_named_origins_no_preflight_succeeds(served: Callable[..., TestClient]) -> None:
    asking = {"Origin": OTHER_SITE, "Access-Control-Request-Method": "POST"}
    with served() as client:
        assert client.options("/prune-sample", headers=asking).status_code == 403


def test_every_response_says_what_browsers_may_do_with_it(
    served: Callable[..., TestClient], settings: Settings
) -> None:
    key = bearer(make_keys(settings, admin="admin")["admin"])
    with served() as client:
        paths = ("/", "/docs", "/ui/", "/jobs", "/health/live", "/nothing", "/openapi.yaml", "/metrics")
        answers = [client.get(path, headers=key) for path in paths]
        for answer in (*answers, client.get("/jobs"), client.get("/jobs", headers={"Host": "evil.example"})):
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Referrer-Policy"] == "same-origin"
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
            assert len(answer.headers.get_list("Content-Security-Policy")) == 1


def test_artifacts_are_in_a_sandbox(client: TestClient, done: Callable[[str], Job]) -> None:
    job = done(client.post("/prune-sample", json=REQUEST).json()["id"])
    for name in job.artifacts:
        answer = client.get(f"/jobs/{job.id}/artifacts/{name}")
        policy = answer.headers["Content-Security-Policy"]
        assert "sandbox" in policy
        assert "allow-scripts" not in policy
        assert "default-src 'none'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
