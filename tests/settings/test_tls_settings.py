"""Settings of TLS: what peers share with the node, and what is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from dicom_node.app import check_tls
from dicom_node.settings import Settings, SettingsError, load_settings
from dicom_node.upper_layer.tls.errors import TlsFilesError
from tests.certificates import Authority, Pair


def load(folder: Path, text: str) -> Settings:
    path = folder / "node.yaml"
    path.write_text(text)
    return load_settings(path, {})


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def own(authority: Authority) -> Pair:
    return authority.issue("node")


USABLE = """\
dimse:
  tls: {port: 2762, certificate_file: node.pem, key_file: node.key, ca_file: authority.pem}
peers:
  - {name: pacs, kind: dimse, ae_title: PACS, host: pacs.example.org, port: 2762, tls: {}}
  - {name: other, kind: dimse, ae_title: OTHER, host: other, port: 2762, tls: {ca_file: other.pem, host_name: archive}}
  - {name: plain, kind: dimse, ae_title: PLAIN, host: plain, port: 104}
"""


def test_peers_with_tls_share_the_files_of_the_node_where_they_name_none(tmp_path: Path) -> None:
    settings = load(tmp_path, USABLE)
    pacs, other, plain = (peer.tls for peer in settings.peers if peer.kind == "dimse")
    assert plain is None
    assert pacs is not None
    assert other is not None
    assert (pacs.certificate_file, pacs.key_file) == (tmp_path / "node.pem", tmp_path / "node.key")
    assert (other.certificate_file, other.key_file) == (tmp_path / "node.pem", tmp_path / "node.key")
    assert (pacs.ca_file, other.ca_file) == (tmp_path / "authority.pem", tmp_path / "other.pem")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dimse: {tls: {port: 2762}}", "dimse.tls: port is set, so certificate_file and key_file are needed"),
        (
            "dimse: {tls: {port: 2762, certificate_file: a, key_file: b}}",
            "dimse.tls: ca_file is needed to check the certificates of requestors",
        ),
        ("dimse: {tls: {certificate_file: a}}", "dimse.tls: certificate_file and key_file belong together"),
        ("dimse: {plain: false}", "dimse: plain is false and tls.port is empty, so nothing would listen"),
        (
            "dimse: {port: 2762, tls: {port: 2762, certificate_file: a, key_file: b, ca_file: c}}",
            "dimse: port and tls.port are both 2762",
        ),
        ("dimse: {tls: {prot: 1}}", "dimse.tls.prot: unknown key; known here: ca_file, certificate_file, key_file"),
        (
            "peers: [{name: a, kind: dimse, ae_title: A, host: a, port: 1, tls: }]",
            "peers.0: tls is there and empty; write tls: {} to use TLS",
        ),
        (
            "peers: [{name: a, kind: dimse, ae_title: A, host: a, port: 1, tls: {hostname: b}}]",
            "peers.0.tls.hostname: unknown key; known here: ca_file, certificate_file, host_name, key_file",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_with_its_key(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(tmp_path, text)
    assert says in str(refused.value)


def test_files_that_fit_are_accepted(tmp_path: Path, own: Pair) -> None:
    check_tls(load(tmp_path, USABLE.replace("other.pem", "authority.pem")))


def test_a_missing_file_is_named(tmp_path: Path, own: Pair) -> None:
    own.key.unlink()
    assert refusal(tmp_path) == f"dimse.tls.key_file: {own.key}: no such file"


def test_a_key_of_another_certificate_is_named(tmp_path: Path, own: Pair, authority: Authority) -> None:
    own.key.write_bytes(authority.issue("other").key.read_bytes())
    assert "is not the key of the certificate in certificate_file" in refusal(tmp_path)


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_passphrase(tmp_path: Path, own: Pair) -> None:
    key = serialization.load_pem_private_key(own.key.read_bytes(), None)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    own.key.write_bytes(key.private_bytes(*form, serialization.BestAvailableEncryption(b"secret")))
    assert "the key is encrypted; store it without a passphrase" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["certificate_file", "key_file", "ca_file"])
def test_a_file_without_pem_is_named(tmp_path: Path, own: Pair, name: str) -> None:
    path = {"certificate_file": own.certificate, "key_file": own.key, "ca_file": tmp_path / "authority.pem"}[name]
    path.write_text("nothing")
    assert refusal(tmp_path).startswith(f"dimse.tls.{name}: {path}: holds no ")


def refusal(folder: Path) -> str:
    with pytest.raises(TlsFilesError) as refused:
        check_tls(load(folder, USABLE))
    return str(refused.value)
