"""dcmtk as the sender: echo, every transfer syntax, many associations, wrong AE titles."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage
from pynetdicom import AE, _config
from pynetdicom.presentation import build_context

from tests.dimse.listening_node import ListeningNode, StartNode
from tests.dimse.raw_peer import dataset_part
from tests.factories import SyntheticSeries, ct_series
from tests.peer_servers import run_tool, start_storescp

pytestmark = pytest.mark.peers

# One context with one transfer syntax: storescu's options know neither the retired JPEG processes nor HTJ2K.
ONE_CONTEXT = """\
[[TransferSyntaxes]]
[One]
TransferSyntax1 = {transfer_syntax_uid}
[Plain]
TransferSyntax1 = LittleEndianImplicit
[[PresentationContexts]]
[Storage]
PresentationContext1 = {sop_class_uid}\\One
PresentationContext2 = VerificationSOPClass\\Plain
[[Profiles]]
[Default]
PresentationContexts = Storage
"""


def storescu(port: int, path: Path, *options: object, called: str = "NODE") -> subprocess.CompletedProcess[str]:
    return run_tool("storescu", "-v", "-aec", called, *options, "+sd", "127.0.0.1", port, path)


def write_series(series: SyntheticSeries, folder: Path) -> Path:
    folder.mkdir(parents=True)
    for index, instance in enumerate(series):
        (folder / f"{index:03d}.dcm").write_bytes(instance.part10)
    return folder


def test_echoscu_gets_an_answer(node: ListeningNode) -> None:
    answer = run_tool("echoscu", "-v", "--repeat", 3, "-aec", "NODE", "127.0.0.1", node.port)
    assert answer.returncode == 0
    assert answer.stdout.count("Received Echo Response (Success)") == 3


def test_echoscu_with_another_called_title_is_rejected_for_good(node: ListeningNode) -> None:
    answer = run_tool("echoscu", "-v", "-aec", "OTHER", "127.0.0.1", node.port)
    assert answer.returncode != 0
    assert "Rejected Permanent" in answer.stdout
    assert "Called AE Title Not Recognized" in answer.stdout


def test_echoscu_with_an_unknown_calling_title_is_rejected_for_good(start_node: StartNode) -> None:
    with start_node(allowed_calling_ae_titles=("PACS",)) as node:
        refused = run_tool("echoscu", "-v", "-aet", "STRANGER", "-aec", "NODE", "127.0.0.1", node.port)
        let_in = run_tool("echoscu", "-v", "-aet", "PACS", "-aec", "NODE", "127.0.0.1", node.port)
    assert "Calling AE Title Not Recognized" in refused.stdout
    assert let_in.returncode == 0


@pytest.mark.data
def test_each_transfer_syntax_from_storescu_is_kept_as_storescp_keeps_it(
    start_node: StartNode, real_series: Callable[[str], Path], tmp_path: Path
) -> None:
    files = sorted(real_series("ct_16_transfer_syntaxes").rglob("*.dcm"))
    assert len(files) == 16
    seen = set()
    for number, path in enumerate(files):
        header = dcmread(path, stop_before_pixels=True)
        transfer_syntax_uid = str(header.file_meta.TransferSyntaxUID)
        configuration = tmp_path / f"{number}.cfg"
        configuration.write_text(
            ONE_CONTEXT.format(transfer_syntax_uid=transfer_syntax_uid, sop_class_uid=header.SOPClassUID)
        )
        options = ("-xf", str(configuration), "Default", "+B")
        # The sixteen share a SOP Instance UID, so each has a node and a folder of its own.
        with (
            start_node(f"node{number}") as node,
            start_storescp(tmp_path / f"scp{number}", options=options) as reference,
        ):
            for port, called in ((node.port, "NODE"), (reference.port, "STORESCP")):
                sent = storescu(port, path, "-xf", configuration, "Default", called=called)
                assert "Received Store Response (Success)" in sent.stdout, f"{path.name}: {sent.stdout}"
            (received,) = reference.folder.iterdir()
            (row,) = node.instances()
            assert row.transfer_syntax_uid == transfer_syntax_uid
            assert node.dataset_bytes(row.sop_instance_uid) == dataset_part(received.read_bytes()), path.name
        seen.add(transfer_syntax_uid)
    assert len(seen) == 15  # the sixteenth is implicit VR little endian a second time


@pytest.mark.data
def test_the_bytes_of_a_file_are_the_bytes_that_are_kept(
    start_node: StartNode, real_series: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # pynetdicom can send a file's dataset as it is; dcmtk encodes it again.
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)
    for number, path in enumerate(sorted(real_series("ct_16_transfer_syntaxes").rglob("*.dcm"))):
        transfer_syntax_uid = dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID
        with start_node(f"node{number}") as node:
            contexts = [build_context(CTImageStorage, transfer_syntax_uid)]
            association = AE("PYNETDICOM").associate("127.0.0.1", node.port, contexts, ae_title="NODE")
            assert association.is_established
            assert association.send_c_store(str(path)).Status == 0
            association.release()
            (row,) = node.instances()
            assert node.dataset_bytes(row.sop_instance_uid) == dataset_part(path.read_bytes()), path.name


def test_eight_associations_at_once_lose_nothing(node: ListeningNode, tmp_path: Path) -> None:
    folders = [
        write_series(ct_series(n_slices=10, rows=64, columns=48, seed=f"sender-{number}"), tmp_path / f"{number}")
        for number in range(8)
    ]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda folder: storescu(node.port, folder), folders))
    assert [result.returncode for result in results] == [0] * 8
    sent = {dcmread(path, stop_before_pixels=True).SOPInstanceUID for folder in folders for path in folder.iterdir()}
    assert {row.sop_instance_uid for row in node.instances()} == sent
    assert len(sent) == 80


def test_an_association_too_many_is_told_to_come_back(start_node: StartNode) -> None:
    with start_node(max_associations=1) as node:
        holder = AE("HOLDER")
        holder.add_requested_context("1.2.840.10008.1.1")
        association = holder.associate("127.0.0.1", node.port, ae_title="NODE")
        assert association.is_established
        refused = run_tool("echoscu", "-v", "-aec", "NODE", "127.0.0.1", node.port)
        association.release()
    assert "Rejected Transient" in refused.stdout
    assert "Local Limit Exceeded" in refused.stdout


def test_storescu_that_aborts_leaves_what_was_acknowledged(node: ListeningNode, tmp_path: Path) -> None:
    folder = write_series(ct_series(n_slices=5, rows=64), tmp_path / "series")
    sent = storescu(node.port, folder, "--abort")
    assert "Aborting Association" in sent.stdout
    assert len(node.instances()) == 5


def test_below_the_watermark_storescu_sees_out_of_resources(start_node: StartNode, tmp_path: Path) -> None:
    folder = write_series(ct_series(n_slices=1, rows=64), tmp_path / "series")
    with start_node(min_free_bytes=2**62) as node:
        sent = storescu(node.port, folder)
        assert "Refused: OutOfResources" in sent.stdout
        assert node.instances() == []


@pytest.mark.data
def test_label_maps_and_other_new_classes_are_taken(node: ListeningNode, tmp_path: Path) -> None:
    def to_label_map(ds: object, _: int) -> None:
        ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.7"  # type: ignore[attr-defined]
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID  # type: ignore[attr-defined]

    folder = write_series(ct_series(n_slices=1, rows=64, edit=to_label_map), tmp_path / "series")
    configuration = tmp_path / "one.cfg"
    configuration.write_text(
        ONE_CONTEXT.format(transfer_syntax_uid="1.2.840.10008.1.2.1", sop_class_uid="1.2.840.10008.5.1.4.1.1.66.7")
    )
    sent = storescu(node.port, folder, "-xf", configuration, "Default")
    assert sent.returncode == 0, sent.stdout
    assert [row.sop_class_uid for row in node.instances()] == ["1.2.840.10008.5.1.4.1.1.66.7"]
