"""The secret of webhooks: made once, for its owner alone; and signatures as Standard Webhooks defines them."""

from __future__ import annotations

import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import ValidationError

from jobs.settings import Settings, SettingsError, get_settings
from jobs.webhooks.secret import FILE, check_secret, headers_of, read_secrets

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_a_signature_is_that_of_the_reference_implementation() -> None:
    """The values are those of the test that the reference libraries share."""
    headers = headers_of([SECRET], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_each_of_several_secrets_makes_a_signature() -> None:
    other = "whsec_" + base64.b64encode(bytes(24)).decode()
    both = headers_of([SECRET, other], "id", 1, b"{}")["webhook-signature"].split(" ")
    assert both == [headers_of([each], "id", 1, b"{}")["webhook-signature"] for each in (SECRET, other)]


def test_a_secret_is_made_once_and_is_readable_for_its_owner_alone(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: read_secrets(None, tmp_path / "data"), range(32)))
    assert all(each == found[0] for each in found)
    (secret,) = found[0]
    assert len(base64.b64decode(check_secret(secret).removeprefix("whsec_"))) == 32
    assert [path.name for path in (tmp_path / "data").iterdir()] == [FILE]
    assert stat.S_IMODE((tmp_path / "data" / FILE).stat().st_mode) == 0o600


def test_a_secret_of_the_settings_leaves_the_data_folder_alone(tmp_path: Path) -> None:
    assert read_secrets(f"{SECRET} {SECRET}", tmp_path / "data") == [SECRET, SECRET]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("text", ["", "secret", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!", SECRET.removeprefix("whsec_")])
def test_what_is_no_secret_is_refused_and_not_repeated(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ValueError, match="delete the file for a new one") as caught:
        read_secrets(None, tmp_path)
    assert "c2hvcnQ" not in str(caught.value)
    if text:
        with pytest.raises(ValidationError):
            Settings(webhook_secret=text)


def test_a_wrong_secret_in_the_environment_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILPRUNE_WEBHOOK_SECRET", "whsec_c2hvcnQ=")
    get_settings.cache_clear()
    with pytest.raises(SettingsError, match="TAILPRUNE_WEBHOOK_SECRET=\\*\\*\\*: a secret is whsec_") as caught:
        get_settings()
    get_settings.cache_clear()
    assert "c2hvcnQ" not in str(caught.value)
    assert SECRET not in repr(Settings(webhook_secret=SECRET))
