"""Each line that docs/configure.md says about connecting a PACS works as it stands, hosts and ports apart."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from dicom_node.dimse import DimseServer
from dicom_node.settings import DimseSettings, load_settings
from dicom_node.store import Store
from tests.dimse.listening_node import ListeningNode
from tests.factories import SyntheticSeries, ct_series
from tests.peer_servers import _spawn, _stop, _wait_until, free_port, start_storescp, tool

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "configure.md").read_text(encoding="utf-8")
DEBIANS_ORTHANC = Path("/etc/orthanc")
SYNTAXES = (ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless)


def section(title: str) -> str:
    """The text below a heading."""
    return re.split(rf"^##+ {title}$", PAGE, flags=re.MULTILINE)[1].split("\n##")[0]


def blocks(text: str, language: str = "") -> list[str]:
    """Fenced blocks, without their indentation."""
    found = re.findall(r"^( *)```(\w*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, named, block in found if named == language]


def lines_with(text: str, word: str) -> list[str]:
    return [line for block in blocks(text) for line in block.splitlines() if word in line]


def settings_of(title: str) -> dict[str, Any]:
    (block,) = [block for block in blocks(section(title), "yaml") if "node:" in block]
    return dict(yaml.safe_load(block))


def uids(series: SyntheticSeries) -> set[str]:
    """SOP Instance UIDs."""
    return {str(each.dataset().SOPInstanceUID) for each in series}


@contextmanager
def listening(settings: dict[str, Any], folder: Path, port: int = 0) -> Iterator[ListeningNode]:
    """The receiver with the settings of the page, on a free port."""
    dimse = DimseSettings(**{**settings["dimse"], "host": "127.0.0.1", "port": port})
    with (
        Store.open(folder, min_free_bytes=0) as store,
        DimseServer(store, dimse, ae_title=settings["node"]["ae_title"], artim_timeout_s=10.0) as server,
    ):
        yield ListeningNode(server, store)


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program = next(word for word in command.split() if "=" not in word)
    path = os.pathsep.join([str(Path(tool(program)).parent), os.environ["PATH"]])
    return subprocess.run(
        ["/bin/sh", "-c", command], cwd=folder, env={**os.environ, "PATH": path, "no_proxy": "*"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("title", ["Connect a PACS", "Orthanc"])
def test_the_settings_are_settings_and_their_titles_fit(title: str, tmp_path: Path) -> None:
    settings = settings_of(title)
    path = tmp_path / "node.yaml"
    path.write_text(yaml.safe_dump({**settings, "node": {**settings["node"], "data_dir": str(tmp_path / "data")}}))
    loaded = load_settings(path, {})
    assert loaded.deliver_to == ("pacs",)
    assert [peer["ae_title"] for peer in settings["peers"]] == settings["dimse"]["allowed_calling_ae_titles"]


@pytest.mark.peers
def test_the_lines_for_dcmtk_reach_the_node_and_compressed_files_arrive_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "FOLDER"
    sent = {}
    for number, syntax in enumerate(SYNTAXES):
        series = ct_series(3, rows=32, columns=32, transfer_syntax_uid=syntax, seed=str(number))
        series.write_to(folder / str(number))
        sent |= dict.fromkeys(uids(series), syntax)
    (folder / "notes.txt").write_text("not an image")
    (echo,) = lines_with(section("dcmtk"), "echoscu")
    (send,) = lines_with(section("dcmtk"), "dcmsend")
    with listening(settings_of("Connect a PACS"), tmp_path / "node") as node:
        for command in (echo, send):
            here = command.replace("node.example.org 11112", f"127.0.0.1 {node.port}")
            assert here != command
            done = shell(here, tmp_path)
            assert done.returncode == 0, done.stdout
        assert {row.sop_instance_uid: row.transfer_syntax_uid for row in node.instances()} == sent


@pytest.mark.peers
def test_storescu_fails_on_what_it_does_not_offer(tmp_path: Path) -> None:
    ct_series(3, rows=32, columns=32, transfer_syntax_uid=JPEG2000Lossless).write_to(tmp_path / "FOLDER")
    with listening(settings_of("Connect a PACS"), tmp_path / "node") as node:
        refused = shell(f"storescu -aet PACS -aec DICOMNODE +sd 127.0.0.1 {node.port} FOLDER", tmp_path)
        assert refused.returncode != 0
        assert node.instances() == []
        sent = shell(f"storescu -xv -aet PACS -aec DICOMNODE +sd 127.0.0.1 {node.port} FOLDER", tmp_path)
        assert sent.returncode == 0, sent.stdout
        assert len(node.instances()) == 3


@pytest.mark.peers
def test_the_receiver_of_the_page_takes_what_is_sent_to_its_title(tmp_path: Path) -> None:
    (receive,) = lines_with(section("dcmtk"), "storescp")
    words = receive.split()
    assert words[:2] == ["TCP_NODELAY=1", "storescp"]
    assert words[2:4] == ["-aet", settings_of("Connect a PACS")["peers"][0]["ae_title"]]
    ct_series(3, rows=32, columns=32).write_to(tmp_path / "FOLDER")
    with start_storescp(tmp_path, ae_title="PACS", options=()) as server:
        done = shell(f"dcmsend -aec PACS +sd 127.0.0.1 {server.port} FOLDER", tmp_path)
        assert done.returncode == 0, done.stdout
        assert len(list(server.folder.iterdir())) == 3


def without_comments(text: str) -> str:
    return re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)


@contextmanager
def orthanc(arguments: list[str], folder: Path, http_port: int) -> Iterator[None]:
    """Orthanc with a configuration as it is; it answers on ``http_port``."""
    process = _spawn([tool("Orthanc"), *arguments], folder / "orthanc.log", {"TCP_NODELAY": "1"})

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{http_port}/system", timeout=2.0, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    try:
        assert _wait_until(answers, process), (folder / "orthanc.log").read_text()
        yield
    finally:
        _stop(process)


def send_by_orthanc(node: ListeningNode, http_port: int, dicom_port: int, folder: Path, title: str) -> None:
    """Fill Orthanc with dcmtk, then let it call the node and send to it with the lines of the page."""
    series = ct_series(3, rows=32, columns=32)
    series.write_to(folder / "FOLDER")
    filled = shell(f"dcmsend -aec {title} -nh +sd +r 127.0.0.1 {dicom_port} FOLDER", folder)
    assert filled.returncode == 0, filled.stdout
    lines = [line for line in lines_with(section("Orthanc"), "curl") if "dcmsend" not in line]
    assert len(lines) == 3
    done = shell(
        "\n".join(lines).replace("localhost:8042", f"127.0.0.1:{http_port}").replace("curl ", "curl -f "), folder
    )
    assert done.returncode == 0, done.stdout
    assert {row.sop_instance_uid for row in node.instances()} == uids(series)
    answer = shell(f"echoscu -aet DICOMNODE -aec {title} 127.0.0.1 {dicom_port}", folder)
    assert answer.returncode == 0, answer.stdout


@pytest.mark.peers
def test_the_whole_configuration_for_orthanc_starts_and_sends_to_the_node(tmp_path: Path) -> None:
    settings = settings_of("Orthanc")
    configuration = json.loads(without_comments((ROOT / "config" / "orthanc-alone.json").read_text()))
    assert configuration["DicomAet"] in settings["dimse"]["allowed_calling_ae_titles"]
    with listening(settings, tmp_path / "node") as node:
        http_port, dicom_port = free_port(), free_port()
        modality = configuration["DicomModalities"]["node"]
        assert (modality["AET"], modality["Port"]) == (settings["node"]["ae_title"], settings["dimse"]["port"])
        modality["Port"] = node.port
        configuration |= {"HttpPort": http_port, "DicomPort": dicom_port}
        (tmp_path / "orthanc.json").write_text(json.dumps(configuration))
        with orthanc([str(tmp_path / "orthanc.json")], tmp_path, http_port):
            send_by_orthanc(node, http_port, dicom_port, tmp_path, configuration["DicomAet"])


@pytest.mark.peers
@pytest.mark.skipif(not (DEBIANS_ORTHANC / "orthanc.json").is_file(), reason="Orthanc is not Debian's")
def test_debians_orthanc_starts_with_the_line_of_the_page_in_its_configuration(tmp_path: Path) -> None:
    (addition,) = [block for block in blocks(section("Orthanc")) if "DicomModalities" in block]
    head, line = addition.strip().splitlines()
    copy = tmp_path / "etc"
    copy.mkdir()
    shutil.copy(DEBIANS_ORTHANC / "orthanc.json", copy)
    text = (copy / "orthanc.json").read_text()
    assert text.count(head) == 1
    with listening(settings_of("Orthanc"), tmp_path / "node") as node:
        http_port, dicom_port = free_port(), free_port()
        text = text.replace(
            head, f"{head}\n{line.replace('node.example.org', '127.0.0.1').replace('11112', str(node.port))}"
        )
        text = text.replace("8042", str(http_port), 1).replace('"DicomPort" : 4242', f'"DicomPort" : {dicom_port}')
        text = text.replace("/var/lib/orthanc/db-v6", str(tmp_path / "db"))
        (copy / "orthanc.json").write_text(text)
        with orthanc([str(copy)], tmp_path, http_port):
            send_by_orthanc(node, http_port, dicom_port, tmp_path, "ORTHANC")
