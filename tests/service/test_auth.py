"""Keys: who may do what, and what a service without keys answers to whom."""

from __future__ import annotations

import logging
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest
import redis
from fastapi.testclient import TestClient
from structlog.testing import capture_logs

from jobs.records import Job
from jobs.settings import Settings
from jobs.startup import StartError
from jobs.store.jobs import JobStore
from jobs.views import WorkerInfo
from service import limits
from service.app import create_app
from service.auth import scope_of
from service.keys import SCOPES, KeyFile, Keys
from service.routes.events import KEEPALIVE
from tests.condition_files import VIDEO, arrays, npz
from tests.service.conftest import REQUEST, application
from tests.service.keys import Operation, bearer, make_keys, operations

ALL = list(operations())


@pytest.fixture
def keys(settings: Settings) -> dict[str, str]:
    """A key of each scope, and one more that may submit, by name."""
    return make_keys(settings, reader="read", submitter="submit", other="submit", admin="admin")


@pytest.fixture
def guarded(settings: Settings, store: JobStore, keys: dict[str, str]) -> Iterator[TestClient]:
    """A client of a service that has keys."""
    with TestClient(application(settings)) as client:
        yield client


def named(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


def test_every_call_of_the_contract_says_which_scope_it_needs() -> None:
    needs = {named(each): each.scope for each in ALL}
    assert {call for call, scope in needs.items() if scope is None} == {
        "GET /",
        "GET /health/live",
        "GET /health/ready",
    }
    assert {call for call, scope in needs.items() if scope == "submit"} == {
        "POST /prune-sample",
        "POST /edit",
        "POST /studies",
        "POST /compact",
        "POST /extract",
        "POST /conditions",
        "DELETE /jobs/{id}",
        "DELETE /conditions/{id}",
    }
    assert {call for call, scope in needs.items() if scope == "admin"} == {
        "POST /models",
        "DELETE /models/{model}",
    }


def test_each_call_is_answered_to_the_scopes_that_it_needs_and_to_no_others(
    guarded: TestClient, keys: dict[str, str]
) -> None:
    for operation in ALL:
        call = named(operation)
        without = guarded.request(operation.method, operation.address, follow_redirects=False)
        if operation.scope is None:
            assert without.status_code < 400, call
        else:
            assert (without.status_code, without.json()["type"]) == (401, "urn:tailprune:problem:key-needed"), call
            assert without.headers["WWW-Authenticate"].startswith("Bearer"), call
            assert keys["admin"] not in without.text
        for name, scope in (("reader", "read"), ("submitter", "submit"), ("admin", "admin")):
            answer = guarded.request(
                operation.method, operation.address, headers=bearer(keys[name]) | {"Prefer": "wait=0"}
            )
            enough = operation.scope is None or SCOPES.index(scope) >= SCOPES.index(operation.scope)
            assert (answer.status_code not in (401, 403)) == enough, f"{call} with {scope}: {answer.text}"
            if not enough:
                assert answer.json()["type"] == "urn:tailprune:problem:not-allowed"
                assert repr(operation.scope) in answer.json()["detail"], "it says which scope is needed"


def test_without_a_key_only_probes_and_files_without_data_are_answered(guarded: TestClient) -> None:
    for path in ("/health/live", "/health/ready", "/ui/", "/ui/jobs", "/favicon.ico", "/docs", "/openapi.yaml"):
        assert guarded.get(path).status_code == 200, path
    for path in ("/metrics", "/jobs", "/events", "/models", "/nothing", "/health/nothing"):
        assert guarded.get(path).status_code == 401, path


def test_what_has_no_scope_of_its_own_needs_the_most() -> None:
    assert scope_of("POST", "/models") == scope_of("PUT", "/jobs/x") == scope_of("DELETE", "/anything") == "admin"
    assert scope_of("GET", "/anything") == scope_of("GET", "/ui\n/../jobs") == "read"


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic {}", "{}", "Bearer {}x", "Bearer tailprune_wrong", "Bearer \xe9", "bearer  {}"],
)
def test_what_is_no_key_is_401(guarded: TestClient, keys: dict[str, str], header: str) -> None:
    sent = header.format(keys["reader"]).encode("latin-1")
    answer = guarded.get("/jobs", headers=[(b"Authorization", sent)])
    assert answer.status_code == (200 if header == "bearer  {}" else 401)


def test_a_key_is_not_taken_from_the_query_nor_from_two_headers(guarded: TestClient, keys: dict[str, str]) -> None:
    for name in ("key", "api_key", "access_token", "token"):
        assert guarded.get("/jobs", params={name: keys["admin"]}).status_code == 401
    twice = [("Authorization", f"Bearer {keys['admin']}")] * 2
    assert guarded.get("/jobs", headers=twice).status_code == 401


def test_keys_are_in_no_log_and_no_problem(
    guarded: TestClient, keys: dict[str, str], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = keys["admin"][:-1] + ("A" if keys["admin"][-1] != "A" else "B")
    answers = [
        guarded.get("/jobs", headers=bearer(wrong)),
        guarded.post("/prune-sample", json=REQUEST, headers=bearer(keys["reader"])),
        guarded.post("/prune-sample", json=REQUEST | {"nonsense": 1}, headers=bearer(keys["submitter"])),
        guarded.get("/jobs", params={"key": keys["admin"]}, headers=bearer(keys["admin"])),
    ]
    captured = capfd.readouterr()
    written = caplog.text + captured.out + captured.err + "".join(answer.text for answer in answers)
    assert "wrong key" in written
    assert "'key': 'submitter'" in written, "the log says whose requests they are"
    for secret in (*keys.values(), wrong):
        assert secret not in written.replace(f"key={keys['admin']}", ""), "but in httpx's own log of the address"


def test_a_key_is_known_and_forgotten_while_the_service_runs(
    guarded: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.keys.LOOK_SECONDS", 0.0)
    file = KeyFile(settings.keys_file)
    added = file.add("late", "read")
    assert guarded.get("/jobs", headers=bearer(added)).status_code == 200
    file.remove("late")
    assert guarded.get("/jobs", headers=bearer(added)).status_code == 401


def test_a_file_of_keys_that_vanishes_or_is_damaged_lets_nobody_in(
    guarded: TestClient, settings: Settings, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.keys.LOOK_SECONDS", 0.0)
    for damage in (settings.keys_file.unlink, lambda: settings.keys_file.write_text("no [toml")):
        damage()
        assert guarded.get("/jobs").status_code == 401
        assert guarded.get("/jobs", headers=bearer(keys["reader"])).status_code == 200


def test_a_removed_key_is_refused_as_soon_as_its_file_can_be_read_again(
    guarded: TestClient, settings: Settings, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.keys.LOOK_SECONDS", 0.0)
    file = KeyFile(settings.keys_file)
    file.remove("submitter")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_text", Mock(side_effect=PermissionError(13, "Permission denied")))
        assert guarded.get("/jobs", headers=bearer(keys["submitter"])).status_code == 200, "as before"
    assert guarded.get("/jobs", headers=bearer(keys["submitter"])).status_code == 401
    assert guarded.get("/jobs", headers=bearer(keys["reader"])).status_code == 200


def test_a_file_that_cannot_be_read_is_logged_once(
    settings: Settings, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.keys.LOOK_SECONDS", 0.0)
    known = Keys(KeyFile(settings.keys_file))
    settings.keys_file.write_text("no [toml")
    with capture_logs() as lines:
        for _ in range(5):
            assert known.find(keys["admin"]) is not None
    assert [line["event"] for line in lines] == ["the keys are as they were"]


def test_an_emptied_file_leaves_the_keys_and_the_removal_of_the_last_key_does_not(
    guarded: TestClient, settings: Settings, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.keys.LOOK_SECONDS", 0.0)
    whole = settings.keys_file.read_bytes()
    settings.keys_file.write_bytes(b"")
    assert guarded.get("/jobs").status_code == 401, "a program that writes the file anew empties it first"
    assert guarded.get("/jobs", headers=bearer(keys["reader"])).status_code == 200
    settings.keys_file.write_bytes(whole)
    for name in keys:
        KeyFile(settings.keys_file).remove(name)
    assert guarded.get("/jobs").status_code == 200, "it is open to this machine again"


def test_a_first_key_that_appears_during_a_request_lets_nobody_in_without(
    settings: Settings, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = KeyFile(settings.keys_file.with_name("others.toml"))
    made.add("ana", "read")
    with TestClient(create_app(settings), client=("192.0.2.9", 50_000)) as http:
        looks = iter([{}, made.read(), made.read()])
        monkeypatch.setattr(Keys, "known", lambda _: next(looks))
        assert http.get("/jobs").status_code == 403


def test_followers_are_cut_off_when_their_key_is_removed(
    guarded: TestClient, settings: Settings, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.keys.LOOK_SECONDS", 0.0)
    job_id = guarded.post("/prune-sample", json=REQUEST, headers=bearer(keys["submitter"])).json()["id"]
    events = guarded.app.state.app.events  # type: ignore[attr-defined]

    async def told(*_: object) -> AsyncIterator[None]:
        yield None
        KeyFile(settings.keys_file).remove("reader")
        yield None
        raise AssertionError("the stream goes on")

    for path, method in (("/events", "observe"), (f"/jobs/{job_id}/events", "follow")):
        monkeypatch.setattr(events, method, told)
        answer = guarded.get(path, headers=bearer(keys["reader"]))
        assert answer.status_code == 200
        assert answer.text.count(KEEPALIVE.decode()) == 1
        assert guarded.get(path, headers=bearer(keys["reader"])).status_code == 401
        keys["reader"] = KeyFile(settings.keys_file).add("reader", "read")


def test_a_key_that_is_made_ends_what_was_answered_without_one(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.toml")
    file.add("ana", "read")
    ana = file.read()["ana"]
    known = Keys(file)
    assert known.admits(ana)
    assert not known.admits(None)
    assert not known.admits(ana.model_copy(update={"scope": "admin"}))
    assert Keys(KeyFile(tmp_path / "none.toml")).admits(None)


def test_the_hosts_of_workers_are_named_to_those_alone_who_may_look(
    guarded: TestClient, settings: Settings, keys: dict[str, str]
) -> None:
    guarded.app.state.app.workers.beat(WorkerInfo(name="worker-1-7@gpu.internal", device="cpu"))  # type: ignore[attr-defined]

    def names(client: TestClient, headers: dict[str, str]) -> list[str]:
        return [worker["name"] for worker in client.get("/health/ready", headers=headers).json()["workers"]]

    assert names(guarded, {}) == names(guarded, bearer("tailprune_wrong")) == ["worker-1-7"]
    assert names(guarded, bearer(keys["reader"])) == ["worker-1-7@gpu.internal"]
    keyless = settings.model_copy(update={"keys": settings.keys_file.with_name("none.toml")})
    with TestClient(create_app(keyless)) as client:
        assert names(client, {}) == ["worker-1-7@gpu.internal"]
    with TestClient(create_app(keyless), client=("192.0.2.9", 50_000)) as client:
        assert names(client, {}) == ["worker-1-7"]


@pytest.mark.parametrize(
    "text", ["no [toml", "ana = 1", "[ana]\nscope = 'all'", "[ana]\nscope = 'read'\nsha256 = 'x'\ncreated = 2026-01-01"]
)
def test_a_file_that_is_none_of_keys_says_what_is_wrong_with_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(StartError, match=r"keys\.toml is (no TOML|not valid)"):
        Keys(KeyFile(path))


def test_the_file_has_hashes_alone_and_is_for_its_user(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys.toml"
    secret = KeyFile(path).add("ana", "submit")
    assert len(secret) > 43
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not list(path.parent.glob(".keys*"))
    with pytest.raises(KeyError):
        KeyFile(path).add("ana", "read")


def test_keys_that_are_made_at_once_are_all_kept(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.toml")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: file.add(f"key-{n}", "read"), range(24)))
    assert len(file.read()) == 24


@pytest.mark.parametrize(
    ("server", "client", "headers", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", {}, 200),
        ("::1", "::1", {}, 200),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", {}, 200),
        ("192.0.2.1", "127.0.0.1", {}, 403),
        ("127.0.0.1", "192.0.2.9", {}, 403),
        ("192.0.2.1", "192.0.2.9", {}, 403),
        ("127.0.0.1", "127.0.0.1", {"X-Forwarded-For": "192.0.2.9"}, 403),
        ("127.0.0.1", "127.0.0.1", {"Forwarded": "for=192.0.2.9"}, 403),
        ("127.0.0.1", "127.0.0.1", {"X-Real-IP": "192.0.2.9"}, 403),
        ("127.0.0.1", "127.0.0.1", {"X-Forwarded-Proto": "https"}, 403),
        ("127.0.0.1", "127.0.0.1", {"Via": "1.1 proxy"}, 403),
    ],
)
def test_without_keys_this_machine_alone_is_answered(
    settings: Settings, store: JobStore, server: str, client: str, headers: dict[str, str], expected: int
) -> None:
    base = f"http://[{server}]" if ":" in server else f"http://{server}"
    with TestClient(application(settings), base_url=base, client=(client, 50_000)) as http:
        answer = http.get("/jobs", headers=headers)
        assert answer.status_code == expected
        if expected == 403:
            assert "tailprune keys add" in answer.json()["detail"]
            assert "TAILPRUNE_OPEN" in answer.json()["detail"]
        assert http.get("/health/live", headers=headers).status_code == 200
        assert http.get("/ui/", headers=headers).status_code == expected
    with TestClient(
        application(settings.model_copy(update={"open": True})), base_url=base, client=(client, 50_000)
    ) as http:
        assert http.get("/jobs", headers=headers).status_code == 200


def test_idempotency_keys_belong_to_the_key_that_sent_them(guarded: TestClient, keys: dict[str, str]) -> None:
    first, other = (bearer(keys[name]) | {"Idempotency-Key": "mine"} for name in ("submitter", "other"))
    mine = guarded.post("/prune-sample", json=REQUEST, headers=first)
    theirs = guarded.post("/prune-sample", json=REQUEST | {"seed": 5}, headers=other)
    assert (mine.status_code, theirs.status_code) == (202, 202), "another request under the same name"
    assert mine.json()["id"] != theirs.json()["id"]
    again = guarded.post("/prune-sample", json=REQUEST | {"seed": 5}, headers=first)
    assert again.json()["type"] == "urn:tailprune:problem:idempotency-key-reused"


def test_a_key_cancels_its_own_jobs_and_an_admin_any(guarded: TestClient, keys: dict[str, str]) -> None:
    ids = [
        guarded.post("/prune-sample", json=REQUEST | {"seed": seed}, headers=bearer(keys["submitter"])).json()["id"]
        for seed in range(3)
    ]
    refused = guarded.delete(f"/jobs/{ids[0]}", headers=bearer(keys["other"]))
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:tailprune:problem:not-allowed")
    assert guarded.get(f"/jobs/{ids[0]}", headers=bearer(keys["other"])).json()["status"] == "queued"
    assert guarded.delete(f"/jobs/{ids[0]}", headers=bearer(keys["submitter"])).json()["status"] == "cancelled"
    assert guarded.delete(f"/jobs/{ids[1]}", headers=bearer(keys["admin"])).json()["status"] == "cancelled"
    assert guarded.delete(f"/jobs/{ids[2]}", headers=bearer(keys["reader"])).status_code == 403


def test_a_shared_job_goes_on_until_the_last_key_has_cancelled_it(guarded: TestClient, keys: dict[str, str]) -> None:
    job_id, same = (
        guarded.post("/prune-sample", json=REQUEST, headers=bearer(keys[name])).json()["id"]
        for name in ("submitter", "other")
    )
    assert job_id == same
    left = guarded.delete(f"/jobs/{job_id}", headers=bearer(keys["submitter"]))
    assert (left.status_code, left.json()["status"]) == (200, "queued")
    assert guarded.delete(f"/jobs/{job_id}", headers=bearer(keys["submitter"])).status_code == 403, "it has left"
    last = guarded.delete(f"/jobs/{job_id}", headers=bearer(keys["other"]))
    assert (last.status_code, last.json()["status"]) == (200, "cancelled")


def test_who_sends_a_named_request_again_asks_for_its_job_again(guarded: TestClient, keys: dict[str, str]) -> None:
    mine, theirs = bearer(keys["submitter"]) | {"Idempotency-Key": "mine"}, bearer(keys["other"])
    job_id = guarded.post("/prune-sample", json=REQUEST, headers=mine).json()["id"]
    assert guarded.post("/prune-sample", json=REQUEST, headers=theirs).json()["id"] == job_id
    assert guarded.delete(f"/jobs/{job_id}", headers=mine).json()["status"] == "queued"
    assert guarded.post("/prune-sample", json=REQUEST, headers=mine).json()["id"] == job_id
    assert guarded.delete(f"/jobs/{job_id}", headers=theirs).json()["status"] == "queued", "it was asked for again"
    assert guarded.delete(f"/jobs/{job_id}", headers=mine).json()["status"] == "cancelled"


def test_only_an_admin_deletes_finished_jobs(
    guarded: TestClient, keys: dict[str, str], done: Callable[[str], Job]
) -> None:
    job_id = guarded.post("/prune-sample", json=REQUEST, headers=bearer(keys["submitter"])).json()["id"]
    done(job_id)
    path = f"/jobs/{job_id}?purge=true"
    assert guarded.delete(path, headers=bearer(keys["submitter"])).status_code == 403
    assert guarded.delete(path, headers=bearer(keys["admin"])).status_code == 204


def test_a_key_deletes_its_own_uploads_and_an_admin_any(
    guarded: TestClient, keys: dict[str, str], redis_client: redis.Redis
) -> None:
    def upload(name: str, count: int) -> str:
        content = npz(arrays(VIDEO, count))
        answer = guarded.post("/conditions", content=content, headers=bearer(keys[name]))
        return str(answer.headers["Location"])

    mine, shared, theirs = upload("submitter", 1), upload("submitter", 2), upload("other", 3)
    assert upload("other", 2) == shared
    refused = guarded.delete(theirs, headers=bearer(keys["submitter"]))
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:tailprune:problem:not-allowed")
    for path in (mine, shared):
        assert guarded.delete(path, headers=bearer(keys["submitter"])).status_code == 204
    left = [
        each["links"]["self"]
        for each in guarded.get("/conditions", headers=bearer(keys["reader"])).json()["conditions"]
    ]
    assert sorted(left) == sorted([shared, theirs]), "another key has uploaded it too"
    assert guarded.delete(shared, headers=bearer(keys["submitter"])).status_code == 403, "its own is deleted already"
    assert guarded.delete(shared, headers=bearer(keys["other"])).status_code == 204
    assert guarded.delete(theirs, headers=bearer(keys["admin"])).status_code == 204
    assert guarded.get("/conditions", headers=bearer(keys["reader"])).json()["conditions"] == []
    assert not redis_client.keys("tailprune:uploaders:*")


def test_what_needs_a_key_is_kept_by_no_shared_cache(
    guarded: TestClient, keys: dict[str, str], done: Callable[[str], Job], client: TestClient
) -> None:
    job = done(guarded.post("/prune-sample", json=REQUEST, headers=bearer(keys["submitter"])).json()["id"])
    picture = guarded.get(f"/jobs/{job.id}/artifacts/grid.png", headers=bearer(keys["reader"]))
    assert picture.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert guarded.get("/jobs", headers=bearer(keys["reader"])).headers["Cache-Control"] == "private"


def test_many_wrong_keys_of_an_address_are_slowed_and_logged(
    guarded: TestClient, keys: dict[str, str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(limits.asyncio, "sleep", sleep)
    answers = [guarded.get("/jobs", headers=bearer(f"tailprune_{n}")) for n in range(limits.WRONG_KEYS + 3)]
    assert [answer.status_code for answer in answers] == [401] * limits.WRONG_KEYS + [429] * 3
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert slept.count(limits.SLOW_SECONDS) >= 3
    said = [record for record in caplog.records if "wrong key" in record.getMessage()]
    assert len(said) == limits.WRONG_KEYS, "no more than these lines a minute, however many there are"
    assert "local" in said[0].getMessage() or "address" in str(said[0].msg)
    assert guarded.get("/jobs", headers=bearer(keys["reader"])).status_code == 200, "a right one is answered"


def test_looking_for_a_key_compares_all_hashes(settings: Settings, keys: dict[str, str]) -> None:
    known = Keys(KeyFile(settings.keys_file))
    for name, secret in keys.items():
        found = known.find(secret)
        assert found is not None
        assert found.name == name
    assert known.find("tailprune_") is None


def test_addresses_of_one_subscriber_have_one_share_of_the_queues(settings: Settings, store: JobStore) -> None:
    shared = settings.model_copy(update={"open": True, "max_queued_jobs": 4, "max_queued_share": 0.5})
    app = create_app(shared)
    statuses = []
    for seed, address in enumerate(("2001:db8::1", "2001:db8::2:1", "2001:db8::3:1", "2001:db8:0:1::1")):
        with TestClient(app, client=(address, 50_000)) as http:
            statuses.append(http.post("/prune-sample", json=REQUEST | {"seed": seed}).status_code)
    assert statuses == [202, 202, 429, 202]
