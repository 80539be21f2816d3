"""The Helm chart: linted, rendered, valid for Kubernetes, and the same processes as in the Compose file."""

from __future__ import annotations

import base64
import tomllib
from typing import Any

import pytest
import yaml

from jobs.settings import Settings
from jobs.webhooks.hosts import host_rules
from jobs.webhooks.secret import check_secret
from tests.docker.containers import ROOT, SERVICE, SERVICES

helm = pytest.importorskip("helm_python", reason="Helm is not here: pip install -c constraints.txt '.[deploy]'")
kubernetes = pytest.importorskip("kubernetes_validate", reason="the schemas of Kubernetes are not here: '.[deploy]'")

CHART = ROOT / "deploy" / "helm" / "tailprune"
OLDEST, NEWEST = "1.25", "1.37"
LEAST: dict[str, Any] = {
    "keys": {"existingSecret": "tailprune-keys"},
    "models": {"volume": {"persistentVolumeClaim": {"claimName": "models", "readOnly": True}}},
}
MOST = LEAST | {
    "image": {"registry": "registry.example.org", "service": {"digest": "sha256:" + "0" * 64}},
    "ingress": {"enabled": True},
    "gpuWorker": {"enabled": True, "runtimeClassName": "nvidia"},
    "autoscaling": {"enabled": True},
    "networkPolicy": {"from": [{"namespaceSelector": {}}]},
    "redis": {"existingSecret": "redis", "storageClass": "fast"},
    "rate": 600,
    "corsOrigins": ["https://example.org"],
    "settings": {"TAILPRUNE_KEEP_DAYS": "results=30"},
    "webhooks": {"hosts": ["hooks.example.com", "private:receiver.apps.svc:8443"]},
}
ELSEWHERE = LEAST | {
    "redis": {"enabled": False, "url": "rediss://redis.example.org:6380/2"},
    "data": {"enabled": False},
    "autoscaling": {"enabled": True},
    "webhooks": {"hosts": ["*.example.com"], "existingSecret": "webhooks"},
}
BY_PROMETHEUS = LEAST | {"autoscaling": {"enabled": True, "prometheus": {"address": "http://prometheus:9090"}}}

each_installation = pytest.mark.parametrize(
    "values", [LEAST, MOST, ELSEWHERE, BY_PROMETHEUS], ids=["least", "most", "elsewhere", "prometheus"]
)


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The manifests of an installation."""
    with helm.Chart.load(str(CHART)) as chart:
        files = chart.render(values, name="test", namespace="apps")
    texts = [text for name, text in files.items() if name.endswith(".yaml")]
    return [manifest for text in texts for manifest in yaml.safe_load_all(text) if manifest]


def of_kind(kind: str, values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The manifests of a kind by their names."""
    return {each["metadata"]["name"]: each for each in rendered(values) if each["kind"] == kind}


def pods(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The pods of an installation by the names of what runs them."""
    workloads = of_kind("Deployment", values) | of_kind("StatefulSet", values)
    return {name: workload["spec"]["template"]["spec"] for name, workload in workloads.items()}


def labels(values: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The labels of these pods."""
    workloads = of_kind("Deployment", values) | of_kind("StatefulSet", values)
    return {name: workload["spec"]["template"]["metadata"]["labels"] for name, workload in workloads.items()}


@each_installation
def test_lint_has_nothing_to_say(values: dict[str, Any]) -> None:
    said = helm.lint(str(CHART), values, namespace="apps")
    assert [each for each in said["messages"] if each["error"] != "icon is recommended"] == []


@pytest.mark.parametrize(
    ("values", "version"),
    [(LEAST, NEWEST), (MOST, NEWEST), (ELSEWHERE, NEWEST), (MOST, OLDEST)],
    ids=["least", "most", "elsewhere", "oldest"],
)
def test_every_manifest_is_valid_for_kubernetes(values: dict[str, Any], version: str) -> None:
    for manifest in rendered(values):
        if not manifest["apiVersion"].startswith("keda.sh/"):  # no schema of Kubernetes itself
            kubernetes.validate(manifest, version, strict=True)


def test_a_misspelt_field_would_be_noticed() -> None:
    (manifest,) = (each for each in rendered(LEAST) if each["kind"] == "PersistentVolumeClaim")
    manifest["spec"]["accesModes"] = manifest["spec"].pop("accessModes")
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate(manifest, NEWEST, strict=True)


@each_installation
def test_every_pod_is_restricted_and_limited(values: dict[str, Any]) -> None:
    for name, pod in pods(values).items():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            assert {"startupProbe", "livenessProbe"} <= container.keys()


def test_the_pods_run_as_the_users_of_the_images() -> None:
    users = {name: pod["securityContext"]["runAsUser"] for name, pod in pods(LEAST).items()}
    ours = int(SERVICE.final("USER").partition(":")[0])
    redis = int(SERVICES["redis"]["user"].partition(":")[0])
    assert users == {"test-service": ours, "test-worker": ours, "test-redis": redis}


@pytest.mark.parametrize(
    ("lacking", "way_out"), [("keys", "tailprune keys add"), ("models", "models.volume names the volume")]
)
def test_what_an_installation_cannot_do_without_is_asked_for(lacking: str, way_out: str) -> None:
    with pytest.raises(helm.HelmError, match=way_out):
        rendered({name: value for name, value in LEAST.items() if name != lacking})


def test_without_keys_it_is_open_only_when_told_so() -> None:
    config = of_kind("ConfigMap", LEAST | {"keys": {}, "open": True})["test"]["data"]
    assert config["TAILPRUNE_OPEN"] == "true"
    assert "TAILPRUNE_OPEN" not in of_kind("ConfigMap", LEAST)["test"]["data"]


def test_passwords_are_in_secrets_alone() -> None:
    for manifest in rendered(LEAST | {"webhooks": MOST["webhooks"]}):
        if manifest["kind"] == "Secret":
            assert manifest["data"].keys() in ({"redis-password"}, {"webhook-secret"})
        else:
            for text in yaml.safe_dump(manifest).splitlines():
                assert "redis://" not in text or "redis://:$(REDIS_PASSWORD)@" in text
                assert "whsec_" not in text


@each_installation
def test_every_variable_is_a_setting(values: dict[str, Any]) -> None:
    config = of_kind("ConfigMap", values)["test"]["data"]
    variables = {
        variable["name"] for pod in pods(values).values() for each in pod["containers"] for variable in each["env"]
    }
    to_come = {"keys", "open", "allowed_hosts", "cors_origins", "rate"}
    for name in variables | config.keys():
        if name not in ("REDIS_URL", "REDIS_PASSWORD", "REDISCLI_AUTH"):
            assert name.removeprefix("TAILPRUNE_").lower() in Settings.model_fields.keys() | to_come


def test_workers_are_scaled_by_what_waits_in_redis_or_by_prometheus() -> None:
    (scaled,) = of_kind("ScaledObject", MOST).values()
    assert scaled["spec"]["scaleTargetRef"] == {"name": "test-gpu-worker"}
    assert "replicas" not in of_kind("Deployment", MOST)["test-gpu-worker"]["spec"]
    assert of_kind("Deployment", MOST)["test-worker"]["spec"]["replicas"] == 1
    triggers = {each["metadata"]["listName"]: each for each in scaled["spec"]["triggers"]}
    assert triggers.keys() == {"metrics", "sampling", "shards"}
    assert triggers["sampling"]["authenticationRef"]["name"] in of_kind("TriggerAuthentication", MOST)
    (elsewhere,) = of_kind("ScaledObject", ELSEWHERE).values()
    assert elsewhere["spec"]["triggers"][0]["metadata"] | {"listName": ""} == {
        "address": "redis.example.org:6380",
        "enableTLS": "true",
        "databaseIndex": "2",
        "listName": "",
        "listLength": "2",
    }
    (scaled,) = of_kind("ScaledObject", BY_PROMETHEUS).values()
    assert [each["type"] for each in scaled["spec"]["triggers"]] == ["prometheus"]


def test_a_gpu_worker_has_its_device_and_runs_on_it() -> None:
    (container,) = pods(MOST)["test-gpu-worker"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"name": "TAILPRUNE_DEVICE", "value": "cuda"} in container["env"]


def test_webhooks_are_called_only_where_there_are_hosts() -> None:
    assert not any(each["metadata"]["name"] == "test-webhooks" for each in rendered(LEAST))
    assert "TAILPRUNE_WEBHOOK_HOSTS" not in of_kind("ConfigMap", LEAST)["test"]["data"]
    hosts = of_kind("ConfigMap", MOST)["test"]["data"]["TAILPRUNE_WEBHOOK_HOSTS"]
    assert [str(rule.host) for rule in host_rules(hosts)] == ["hooks.example.com", "receiver.apps.svc"]
    with pytest.raises(helm.HelmError, match=r"webhooks\.hosts names the hosts"):
        rendered(LEAST | {"settings": {"TAILPRUNE_WEBHOOK_HOSTS": "hooks.example.com"}})


def test_what_calls_webhooks_runs_as_in_the_compose_file() -> None:
    (container,) = pods(MOST)["test-webhooks"]["containers"]
    assert container["args"] == SERVICES["webhooks"]["command"]
    (worker,) = pods(MOST)["test-worker"]["containers"]
    assert container["image"] == worker["image"]
    assert container["livenessProbe"] == worker["livenessProbe"]


def test_calls_of_webhooks_are_signed_with_a_secret_that_is_made_or_named() -> None:
    def named(values: dict[str, Any]) -> str:
        (container,) = pods(values)["test-webhooks"]["containers"]
        (variable,) = (each for each in container["env"] if each["name"] == "TAILPRUNE_WEBHOOK_SECRET")
        assert variable["valueFrom"]["secretKeyRef"]["key"] == "webhook-secret"
        return str(variable["valueFrom"]["secretKeyRef"]["name"])

    made = of_kind("Secret", MOST)[named(MOST)]
    secret = base64.b64decode(made["data"]["webhook-secret"]).decode()
    assert check_secret(secret) == secret
    assert made["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert named(ELSEWHERE) == "webhooks"
    assert "test-webhooks" not in of_kind("Secret", ELSEWHERE)


def test_what_calls_webhooks_is_let_out_but_not_to_addresses_of_a_link() -> None:
    spec = of_kind("NetworkPolicy", MOST)["test-webhooks"]["spec"]
    assert spec["podSelector"]["matchLabels"].items() <= labels(MOST)["test-webhooks"].items()
    assert (spec["policyTypes"], spec.get("ingress")) == (["Ingress", "Egress"], None)
    names, to_redis, out = spec["egress"]
    assert {port["port"] for port in names["ports"]} == {53}
    (peer,) = to_redis["to"]
    assert peer["podSelector"]["matchLabels"].items() <= labels(MOST)["test-redis"].items()
    assert "ports" not in out
    blocks = {each["ipBlock"]["cidr"]: each["ipBlock"]["except"] for each in out["to"] if "ipBlock" in each}
    assert blocks == {"0.0.0.0/0": ["169.254.0.0/16"], "::/0": ["fe80::/10"]}
    only = [{"ipBlock": {"cidr": "198.51.100.0/24"}}]
    narrow = of_kind("NetworkPolicy", ELSEWHERE | {"networkPolicy": {"webhooksTo": only}})["test-webhooks"]["spec"]
    assert [rule["to"] for rule in narrow["egress"] if "to" in rule] == [only]


def test_redis_is_reached_by_service_and_workers_alone() -> None:
    (rule,) = of_kind("NetworkPolicy", LEAST)["test-redis"]["spec"]["ingress"]
    (peer,) = rule["from"]
    (among,) = peer["podSelector"]["matchExpressions"]
    assert among["values"] == ["service", "worker", "gpu-worker", "webhooks"]
    assert of_kind("NetworkPolicy", LEAST)["test-workers"]["spec"].get("ingress") is None


def test_redis_runs_as_in_the_compose_file() -> None:
    (container,) = pods(LEAST)["test-redis"]["containers"]
    command = " ".join(SERVICES["redis"]["command"])
    for option in ("appendonly", "appendfsync", "maxmemory-policy"):
        (value,) = {text.partition(f"--{option} ")[2].split()[0] for text in (command, container["args"][0])}
        assert value


def test_the_chart_is_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == version
