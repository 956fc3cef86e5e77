"""Until when certificates are valid: in `status`, in `check-config`, over HTTP."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from dicom_node.certificates import Certificates
from dicom_node.settings import load_settings
from dicom_node.upper_layer.tls.certificates import CertificateFacts
from tests.certificates import Authority, Pair, self_signed
from tests.cli.conftest import Run
from tests.dicomweb.serving import serve
from tests.new_store import NewStore

SOON = timedelta(days=12, hours=1)
NOW = datetime(2026, 11, 30, tzinfo=UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "certificates")


def with_tls(config: Path, own: Pair, authority: Authority) -> Path:
    """The node's file with a port for TLS, on which nothing listens."""
    settings = yaml.safe_load(config.read_text())
    files = {"certificate_file": own.certificate, "key_file": own.key, "ca_file": authority.path}
    settings["dimse"]["tls"] = {"port": 3} | {key: str(path) for key, path in files.items()}
    config.write_text(yaml.safe_dump(settings))
    return config


def test_status_shows_every_certificate_and_warns_before_one_expires(
    run: Run, config: Path, authority: Authority, new_store: NewStore, tmp_path: Path
) -> None:
    new_store(tmp_path / "data").close()
    with_tls(config, authority.issue("node", ends_in=SOON), authority)
    shown = run("status", "-c", config).stdout
    words = " ".join(shown.split())
    assert "dimse.tls.certificate_file: CN=node, valid until" in words
    assert "dimse.tls.ca_file: CN=authority, valid until" in words
    assert "warning: dimse.tls.certificate_file: the certificate CN=node" in shown
    assert "expires in 12 days" in shown
    state = json.loads(run("status", "-c", config, "--json").stdout)
    assert [each["state"] for each in state["certificates"]] == ["certificate-expires", "valid"]
    assert not [each for each in state["troubles"] if each["code"].startswith("certificate")]


def test_an_expired_certificate_is_a_trouble(
    run: Run, config: Path, authority: Authority, new_store: NewStore, tmp_path: Path
) -> None:
    new_store(tmp_path / "data").close()
    with_tls(config, authority.expired("node"), authority)
    state = json.loads(run("status", "-c", config, "--json").stdout)
    (trouble,) = [each for each in state["troubles"] if each["code"] == "certificate-expired"]
    assert trouble["about"] == "dimse.tls.certificate_file"
    assert "renew it, no restart is needed" in trouble["message"]


def test_the_files_for_everybody_whom_the_node_calls_are_watched(
    run: Run, config: Path, authority: Authority, new_store: NewStore, tmp_path: Path
) -> None:
    new_store(tmp_path / "data").close()
    own, old = authority.issue("node", ends_in=SOON), authority.expired()
    settings = yaml.safe_load(config.read_text())
    archive = {"name": "pacs", "kind": "dimse", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    settings["peers"] = [
        archive | {"tls": {"certificate_file": str(own.certificate), "key_file": str(own.key)}},
        {"name": "web", "kind": "dicomweb", "url": "https://pacs.example.org", "ca_file": str(old.certificate)},
    ]
    settings["notify"] = [
        {"name": "orthanc", "kind": "orthanc", "url": "https://pacs.example.org", "ca_file": str(authority.path)}
    ]
    settings["audit"] = {
        "syslog": "tls://audit.example.org:6514", "syslog_ca_file": str(authority.path),
        "syslog_certificate": str(own.certificate), "syslog_key": str(own.key),
    }  # fmt: skip
    settings["oidc"] = {"ca_file": str(authority.path)}
    config.write_text(yaml.safe_dump(settings))
    state = json.loads(run("status", "-c", config, "--json").stdout)
    assert {each["setting"]: each["state"] for each in state["certificates"]} == {
        "peers.pacs.tls.certificate_file": "certificate-expires", "peers.web.ca_file": "certificate-expired",
        "notify.orthanc.ca_file": "valid",
    }  # fmt: skip
    (trouble,) = [each for each in state["troubles"] if each["code"] == "certificate-expired"]
    assert trouble["about"] == "peers.web.ca_file"

    for peer in settings["peers"]:  # the audit trail's are shown by the setting that names them first
        peer.pop("tls", None), peer.pop("ca_file", None)
    settings["notify"], settings["oidc"] = [], {}
    config.write_text(yaml.safe_dump(settings))
    state = json.loads(run("status", "-c", config, "--json").stdout)
    assert {each["setting"]: each["state"] for each in state["certificates"]} == {
        "audit.syslog_certificate": "certificate-expires", "audit.syslog_ca_file": "valid",
    }  # fmt: skip


def test_a_bundle_of_authorities_is_not_watched(config: Path, authority: Authority) -> None:
    bundle = authority.folder / "bundle.pem"
    bundle.write_bytes(b"".join(authority.expired(f"old-{n}").certificate.read_bytes() for n in range(17)))
    settings = yaml.safe_load(config.read_text())
    settings["oidc"] = {"ca_file": str(bundle)}
    config.write_text(yaml.safe_dump(settings))
    assert Certificates(load_settings(config, {})).facts() == []


def test_check_config_says_what_is_odd_about_certificates(run: Run, config: Path, authority: Authority) -> None:
    expired = run("check-config", "-c", with_tls(config, authority.expired("node"), authority))
    assert expired.exit_code == 0
    assert "port 1 and 3 with TLS" in expired.stdout
    assert "warning: dimse.tls.certificate_file: the certificate CN=node" in expired.stdout
    alone = run("check-config", "-c", with_tls(config, self_signed(authority.folder), authority))
    assert "is self-signed; every peer has to have this very certificate" in alone.stdout


def test_check_config_names_a_key_that_is_missing(run: Run, config: Path, authority: Authority) -> None:
    own = authority.issue("node")
    own.key.unlink()
    refused = run("check-config", "-c", with_tls(config, own, authority))
    assert refused.exit_code == 2
    assert f"dimse.tls.key_file: {own.key}: no such file" in refused.stderr


def test_health_and_metrics_follow_a_renewed_certificate(
    config: Path, authority: Authority, new_store: NewStore, tmp_path: Path
) -> None:
    own = authority.issue("node", ends_in=SOON)
    certificates = Certificates(load_settings(with_tls(config, own, authority), {}))
    with new_store(tmp_path / "data") as store, serve(store, certificates=certificates.facts) as url:
        ready = httpx.get(f"{url}/health/ready", trust_env=False).json()
        assert ready["warnings"] == [
            {"about": "dimse.tls.certificate_file", "code": "certificate-expires", "days": SOON.days}
        ]
        before = expiry(url)
        renewed = authority.issue("node")
        os.utime(renewed.certificate, ns=(1, 1))
        assert httpx.get(f"{url}/health/ready", trust_env=False).json()["warnings"] == []
        after = expiry(url)
    assert after["dimse.tls.certificate_file"] - before["dimse.tls.certificate_file"] > 86400 * 300
    assert after["dimse.tls.ca_file"] == before["dimse.tls.ca_file"]


def expiry(url: str) -> dict[str, float]:
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics", trust_env=False).text)
    name = "dicom_node_certificate_expiry_timestamp_seconds"
    return {s.labels["setting"]: s.value for family in families for s in family.samples if s.name == name}


def test_only_dask_has_to_be_restarted_for_a_new_certificate(tmp_path: Path) -> None:
    def said(about: str) -> str:
        facts = CertificateFacts(f"{about}.ca_file", tmp_path, "CN=a", NOW - SOON, NOW, is_self_signed=False)
        return str(facts.warning(NOW))

    assert "renew it, no restart is needed" in said("dimse.tls")
    assert "renew it, then restart `work`" in said("work.dask_tls")
