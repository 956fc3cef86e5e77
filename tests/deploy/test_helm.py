"""The chart, rendered by Helm: valid for Kubernetes, locked down, and in agreement with the node that it runs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

import dicom_node
from dicom_node.cli import app
from dicom_node.settings import Settings, load_settings
from dicom_node.store import PARTS, Store

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "config" / "helm" / "dicom-node"
TOOLS = Path(os.environ.get("DICOM_NODE_TEST_TOOLS", Path.home() / ".cache/dicom-node-tests/deploy-tools"))
HELM = shutil.which("helm") or shutil.which(TOOLS / "helm")
OLDEST, NEWEST = "1.27", "1.37"

pytestmark = pytest.mark.skipif(HELM is None, reason="no helm: sh tests/deploy/install_tools.sh")

S3 = {
    "settings": {"node": {"ae_title": "HOSPITAL", "objects_url": "s3://images/node"}},
    "secretName": "node-secrets",
}
INGRESS = {"enabled": True, "host": "node.example.org", "tlsSecretName": "tls", "proxies": ["10.244.0.0/16"]}
LARGE = {
    **S3,
    "tlsSecretName": "node-tls",
    "image": {"repository": "registry.example.org/dicom-node", "digest": "sha256:" + "0" * 64},
    "imagePullSecrets": [{"name": "registry"}],
    "receive": {"replicas": 2, "tlsPort": 2762, "service": {"loadBalancerSourceRanges": ["10.1.0.0/16"]}},
    "web": {"replicas": 2, "ingress": INGRESS},
    "work": {"replicas": 3, "gpu": 1, "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]},
    "networkPolicy": {"dimseFrom": ["10.1.0.0/16"], "webFrom": [{"podSelector": {}}]},
}
CLAIM = {"storage": {"kind": "claim", "size": "2Ti", "storageClassName": "fast"}}
CASES = {"s3": S3, "large": LARGE, "claim": CLAIM}


def render(values: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "values.yaml"
    path.write_text(yaml.safe_dump(values))
    argv = [str(HELM), "template", "trial", str(CHART), "-f", str(path)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module", params=list(CASES))
def objects(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """All that Helm renders for one set of values."""
    rendered = render(CASES[request.param], tmp_path_factory.mktemp("values"))
    assert rendered.returncode == 0, rendered.stderr
    return [each for each in yaml.safe_load_all(rendered.stdout) if each]


def of_kind(objects: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [each for each in objects if each["kind"] in kinds]


def pods(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Pod templates by component."""
    templates = [each["spec"]["template"] for each in of_kind(objects, "Deployment", "StatefulSet", "Job")]
    return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in templates}


def settings_in(config_map: dict[str, Any], folder: Path) -> Settings:
    """What the node makes of the file in a ConfigMap."""
    tree = yaml.safe_load(config_map["data"]["node.yaml"])
    if "objects_url" not in type(load_settings(None, {}).node).model_fields:
        tree["node"].pop("objects_url", None)
    path = folder / "node.yaml"
    path.write_text(yaml.safe_dump(tree))
    return load_settings(path, {})


def test_kubernetes_accepts_it(objects: list[dict[str, Any]]) -> None:
    for each in objects:
        for version in (OLDEST, NEWEST):
            kubernetes_validate.validate(each, version, strict=True)
    wrong = {**of_kind(objects, "Deployment")[0], "spec": 5}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, NEWEST, strict=True)


def test_the_node_accepts_its_settings(objects: list[dict[str, Any]], tmp_path: Path) -> None:
    for config_map in of_kind(objects, "ConfigMap"):
        settings = settings_in(config_map, tmp_path)
        assert str(settings.node.data_dir) == "/data"
        assert (settings.dimse.port, settings.web.port, settings.web.host) == (11112, 8080, "0.0.0.0")
        assert settings.web.access == "tokens"
        assert settings.web.proxies == (tuple(INGRESS["proxies"]) if of_kind(objects, "Ingress") else ())
    ports = {port["name"]: port["containerPort"] for pod in pods(objects).values()
             for port in pod["spec"]["containers"][0].get("ports", ())}  # fmt: skip
    assert ports["dimse"] == settings.dimse.port
    assert ports["http"] == settings.web.port
    assert ports.get("dimse-tls") == settings.dimse.tls.port


def test_every_part_runs_by_a_command_that_exists(objects: list[dict[str, Any]]) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert set(PARTS) <= set(pods(objects))
    for part, pod in pods(objects).items():
        words = pod["spec"]["containers"][0]["args"]
        assert words[-2:] == ["-c", "/config/node.yaml"]
        assert words[:-2] == ["store", "upgrade"] if part == "upgrade" else [part]
        command = commands[words[0]]
        assert len(words) == 3 or words[1] in command.commands


def test_nothing_in_a_pod_can_do_more_than_it_needs(objects: list[dict[str, Any]]) -> None:
    for pod in pods(objects).values():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 10001
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert mounted - {"/tls"} == {"/data", "/config", "/secrets", "/tmp"}
            claimed = {each["metadata"]["name"] for workload in of_kind(objects, "StatefulSet")
                       for each in workload["spec"].get("volumeClaimTemplates", ())}  # fmt: skip
            there = {volume["name"] for volume in spec["volumes"]} | claimed
            assert {mount["name"] for mount in container["volumeMounts"]} <= there


def test_services_lead_to_ports_of_pods_and_peers_keep_their_addresses(objects: list[dict[str, Any]]) -> None:
    for service in of_kind(objects, "Service"):
        (pod,) = [pod for pod in pods(objects).values()
                  if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()]  # fmt: skip
        names = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
        if service["metadata"]["name"].endswith("-receive"):
            assert service["spec"]["externalTrafficPolicy"] == "Local"


def test_every_pod_has_a_network_policy(objects: list[dict[str, Any]]) -> None:
    policies = of_kind(objects, "NetworkPolicy")
    for part, pod in pods(objects).items():
        (policy,) = [each for each in policies if each["spec"]["podSelector"]["matchLabels"].items()
                     <= pod["metadata"]["labels"].items()]  # fmt: skip
        assert bool(policy["spec"]["ingress"]) is (part in {"receive", "web"})


@pytest.mark.parametrize("part", ["schedule", "work"])
def test_the_probe_of_a_part_without_a_port_reads_what_it_says_of_itself(
    objects: list[dict[str, Any]], part: str, tmp_path: Path
) -> None:
    words = pods(objects)[part]["spec"]["containers"][0]["readinessProbe"]["exec"]["command"]
    probe = [word.replace("/data/", f"{tmp_path}/") for word in words]

    def is_ready(host: str) -> bool:
        return subprocess.run(probe, env={"PATH": os.environ["PATH"], "HOSTNAME": host}, check=False).returncode == 0

    announced = Store.announce(tmp_path, part, datetime.now(UTC))
    assert not is_ready(socket.gethostname())
    announced.ready()
    assert is_ready(socket.gethostname())
    assert not is_ready("another-pod")
    announced.end()
    assert not is_ready(socket.gethostname())


@pytest.mark.parametrize(("scratch", "cache_bytes"), [("20Gi", 10 * 2**30), ("1.5Ti", 768 * 2**30), ("512Mi", 2**28)])
def test_copies_of_objects_leave_room_on_a_disk_whose_limit_evicts(
    tmp_path: Path, scratch: str, cache_bytes: int
) -> None:
    rendered = render({**S3, "storage": {"scratch": scratch}}, tmp_path)
    assert rendered.returncode == 0, rendered.stderr
    found = [each for each in yaml.safe_load_all(rendered.stdout) if each]
    volumes = {part: pod["spec"]["volumes"] for part, pod in pods(found).items() if part in ("web", "schedule", "work")}
    assert len(volumes) == 3
    for each in volumes.values():
        assert {"name": "data", "emptyDir": {"sizeLimit": scratch}} in each
    for config_map in of_kind(found, "ConfigMap"):
        assert settings_in(config_map, tmp_path).objects.cache_bytes == cache_bytes


def test_a_gpu_is_asked_for_by_its_resource(tmp_path: Path) -> None:
    rendered = list(yaml.safe_load_all(render(LARGE, tmp_path).stdout))
    limits = pods(rendered)["work"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"memory": "16Gi", "nvidia.com/gpu": 1}
    assert len(of_kind(rendered, "PodDisruptionBudget")) == 2


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"settings": {}}, "settings.node.objects_url has to name a bucket"),
        ({"secretName": ""}, "secretName has to name a Secret"),
        ({"receive": {"replicas": -1}}, "minimum"),
        ({"receive": {"tlsPort": 2762}}, "tlsSecretName has to name a Secret"),
        ({"web": {"ingress": {**INGRESS, "host": ""}}}, "minLength"),
        ({"web": {"ingress": {**INGRESS, "proxies": []}}}, "proxies"),
        ({"storage": {"kind": "nfs"}}, "storage/kind"),
        ({"wrok": {}}, "wrok"),
        ({"settings": {"node": {"objects_url": "s3://b", "database_url": "postgresql://a:b@c/d"}}}, "ConfigMaps"),
    ],
)
def test_wrong_values_are_refused_with_what_is_wrong(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    rendered = render({**S3, **changes}, tmp_path)
    assert rendered.returncode != 0
    assert says in rendered.stderr


def test_the_chart_runs_this_version() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == dicom_node.__version__
