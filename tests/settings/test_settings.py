"""Settings: what an administrator may write, and what is said when it is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from dicom_node.settings import DicomwebPeer, DimsePeer, Settings, SettingsError, load_settings
from dicom_node.settings.load import _anchor_paths

ROOT = Path(__file__).resolve().parents[2]
TARGET = "{name: a, kind: orthanc, url: 'http://h'}"
PEER = "{name: a, ae_title: A, host: h, port: 1, kind: dimse}"


def paths_in(model: type[BaseModel], before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the keys that hold a path."""
    for name, field in model.model_fields.items():
        for kind in get_args(field.annotation) or (field.annotation,):
            if kind is Path:
                yield (*before, name)
            elif isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from paths_in(kind, (*before, name))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "node.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_every_key_has_its_default() -> None:
    settings = load_settings(None, {})
    assert settings.node.ae_title == "DICOMNODE"
    assert settings.dimse.port == 11112
    assert settings.peers == ()


def test_the_shipped_file_says_the_defaults() -> None:
    shipped = load_settings(ROOT / "config" / "node.yaml", {})
    defaults = load_settings(None, {})
    assert shipped.model_copy(update={"node": defaults.node}) == defaults
    assert shipped.node.data_dir == ROOT / "data"


def test_paths_are_shown_without_steps_back(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    path = written(tmp_path / "config", "node: {data_dir: ../data}\nmodels: {foreground: a/../../b}\n")
    settings = load_settings(path, {})
    assert str(settings.node.data_dir) == str(tmp_path / "data")
    assert str(settings.models.foreground) == str(tmp_path / "b")


def test_peers_of_both_kinds_are_read(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "peers:\n"
        "  - {name: pacs, kind: dimse, ae_title: ORTHANC, host: 127.0.0.1, port: 4242}\n"
        "  - {name: archive, kind: dicomweb, url: 'http://127.0.0.1:8042/dicom-web'}\n"
        "deliver_to: [archive]\n",
    )
    settings = load_settings(path, {})
    assert [type(peer) for peer in settings.peers] == [DimsePeer, DicomwebPeer]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("wob: {}\n", r"node\.yaml: wob: unknown key; known here: .*\bweb\b"),
        ("web: {prot: 1}\n", r"web\.prot: unknown key; known here: access, administrators, browser_cache"),
        ("web: {public_url: 'ftp://x'}\n", r"web\.public_url: .*'http' or 'https'"),
        ("web: {port: 70000}\n", r"web\.port: .*65535 \(found 70000\)"),
        ("work: {device: gpu}\n", r"work\.device: .*'auto', 'cpu' or 'cuda' \(found 'gpu'\)"),
        ("node: {ae_title: THIS_IS_MUCH_TOO_LONG}\n", r"node\.ae_title: an AE title has 1 to 16 characters, 21 found"),
        ("deliver_to: [pacs]\n", r"deliver_to: no peer is named 'pacs'; known peers: none is configured"),
        ("peers: [{name: a, kind: ftp}]\n", r"peers\.0: .*'dimse', 'dicomweb'"),
        ("peers: [{name: a, kind: dimse, ae_title: A, host: h, port: 1, prot: 2}]\n", r"peers\.0\.prot: unknown key"),
        (f"peers: [{PEER}, {PEER}]\n", r"the name 'a' is used twice"),
        ("notify: [{name: a, kind: mail}]\n", r"notify\.0: .*'orthanc', 'webhook'"),
        (
            "notify: [{name: a, kind: orthanc, url: 'http://h', prot: 1}]\n",
            r"notify\.0\.prot: unknown key.*label_prefix",
        ),
        (
            "notify: [{name: a, kind: orthanc, url: 'http://n:pw@h'}]\n",
            r"notify\.0\.url: must hold no user or password",
        ),
        ("notify: [{name: a, kind: orthanc, url: 'http://h', metadata: 7}]\n", r"notify\.0\.metadata.*1024"),
        ("notify: [{name: a, kind: orthanc, url: 'http://h', metadata: a b}]\n", r"notify\.0\.metadata.*pattern"),
        ("notify: [{name: a, kind: webhook, url: 'http://h'}]\n", r"notify\.0\.secret_env: Field required"),
        (f"notify: [{TARGET}, {TARGET}]\n", r"notify: the name 'a' is used twice"),
        ("web: [1]\n", r"web: .*valid"),
        ("- 1\n", r"must hold keys and values, but holds a list"),
        ("web: {port: [}\n", r"is not valid YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_file_key_and_what_is_allowed(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        load_settings(written(tmp_path, text), {})
    assert str(tmp_path / "node.yaml") in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.yaml: no such file"):
        load_settings(tmp_path / "absent.yaml", {})


def test_the_environment_wins_over_the_file_and_is_read_as_yaml(tmp_path: Path) -> None:
    path = written(tmp_path, "web: {port: 8081}\n")
    env = {
        "DICOM_NODE__WEB__PORT": "9090",
        "DICOM_NODE__DIMSE__ALLOWED_CALLING_AE_TITLES": "[PACS1, PACS2]",
        "HOME": "/",
    }
    settings = load_settings(path, env)
    assert settings.web.port == 9090
    assert settings.dimse.allowed_calling_ae_titles == ("PACS1", "PACS2")


def test_an_unknown_variable_is_an_error_too() -> None:
    with pytest.raises(SettingsError, match=r"web\.prot: unknown key"):
        load_settings(None, {"DICOM_NODE__WEB__PROT": "1"})


def test_relative_paths_count_from_the_files_folder(tmp_path: Path) -> None:
    path = written(tmp_path, "node: {data_dir: store}\nmodels: {foreground: m/fg}\nrules: r.yaml\n")
    settings = load_settings(path, {})
    assert settings.node.data_dir == tmp_path / "store"
    assert settings.models.foreground == tmp_path / "m" / "fg"
    assert settings.rules == tmp_path / "r.yaml"


@pytest.mark.parametrize("keys", sorted(paths_in(Settings)))
def test_every_path_counts_from_the_files_folder(keys: tuple[str, ...]) -> None:
    tree: dict[str, Any] = {}
    section = tree
    for key in keys[:-1]:
        section = section.setdefault(key, {})
    section[keys[-1]] = "one"
    _anchor_paths(tree, Path("/etc/node"))
    assert section[keys[-1]] == "/etc/node/one"


@pytest.mark.parametrize(
    "text",
    [
        "notify: [{name: a, kind: webhook, url: 'https://user:s3cr@t@h/x', secret_env: A}]",
        "objects: {endpoint_url: 'ftp://user:s3cr@t@h'}",
        "audit: {syslog: 'tls://user:s3cr@t@h'}",
    ],
)
def test_a_password_in_a_url_is_not_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=r"//\*\*\*@h") as caught:
        load_settings(written(tmp_path, text), {})
    assert "s3cr" not in str(caught.value)


def test_settings_cannot_change_at_run_time() -> None:
    settings = load_settings(None, {})
    with pytest.raises(ValueError, match="frozen"):
        settings.web.port = 1  # type: ignore[misc]
