"""The alarms for Prometheus: valid, described, and each of them tried."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.docker.containers import ROOT

FOLDER = ROOT / "deploy" / "prometheus"
PROMTOOL = shutil.which("promtool")
RULES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"][0]["rules"]

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not on the PATH; Debian's prometheus has it")


@needs_promtool
@pytest.mark.parametrize("command", [("check", "rules", "rules.yaml"), ("test", "rules", "rules_test.yaml")])
def test_the_rules_are_valid_and_fire_as_their_own_tests_say(processes: None, command: tuple[str, ...]) -> None:
    done = subprocess.run([str(PROMTOOL), *command], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_test_of_the_rules_has_each_alarm_fire_and_stay_silent() -> None:
    cases = [
        case
        for each in yaml.safe_load((FOLDER / "rules_test.yaml").read_text())["tests"]
        for case in each["alert_rule_test"]
    ]
    alarms = {rule["alert"] for rule in RULES}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == alarms
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == alarms


def test_each_alarm_is_in_the_documentation() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    for rule in RULES:
        assert f"`{rule['alert']}`" in text
