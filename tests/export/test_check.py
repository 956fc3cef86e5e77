"""``exports check``: a folder of copies holds what its manifests and the node say, or the difference is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dicom_node.export.checking import check_folder, compare_with_node
from dicom_node.export.errors import OutputFolderError
from dicom_node.store import DecisionKind, Store
from tests.gate.cases import NAMES, copies, export, say, seen
from tests.store.sending import STUDY

OTHER = "1.2.826.0.1.3680043.9"


@pytest.fixture
def out(store: Store, tmp_path: Path) -> Path:
    """Two studies that were exported in two runs."""
    seen(store, "defaced")
    seen(store, "defaced", series=f"{OTHER}.1", study=OTHER)
    export(store, tmp_path / "out", cohort=[OTHER])
    export(store, tmp_path / "out", cohort=[STUDY])
    export(store, tmp_path / "out", is_dry_run=True)
    return tmp_path / "out"


def faults(store: Store, out: Path) -> list[str]:
    checked = check_folder(out)
    return [*checked.findings, *compare_with_node(checked, store.exports.list())]


def test_what_two_runs_exported_is_whole(store: Store, out: Path, tmp_path: Path) -> None:
    checked = check_folder(out)
    assert (checked.n_manifests, checked.n_copies, len(checked.digests)) == (2, 4, 2)
    assert faults(store, out) == []
    moved = tmp_path / "elsewhere"
    out.rename(moved)
    assert faults(store, moved) == []


def test_a_copy_that_was_changed_added_or_removed_is_named(store: Store, out: Path) -> None:
    first, second, third, _ = copies(out)
    content = bytearray(first.read_bytes())
    content[-1] ^= 1
    first.write_bytes(content)
    second.unlink()
    shutil.copy(third, third.with_name("more.dcm"))
    found = faults(store, out)
    assert [one.rpartition(": ")[2] for one in found] == ["no manifest names it", "changed", "missing"]


def test_a_manifest_that_was_changed_is_named_and_one_that_was_rewritten_whole_does_not_convince_the_node(
    store: Store, out: Path
) -> None:
    path = out / "manifest.json"
    content = json.loads(path.read_text())
    content["instances"][0]["sha256"] = "0" * 64
    path.write_text(json.dumps(content))
    assert "manifest.json: a record was added, removed or changed" in faults(store, out)
    study = NAMES.mapped_uid(STUDY)
    shutil.rmtree(next(out.glob(f"*/{study}")))
    (out / "manifests" / "manifest-forged.json").write_bytes(b"[]")
    path.unlink()
    assert faults(store, out) == ["manifest-forged.json: a record was added, removed or changed"]


def test_copies_that_the_node_has_not_made_so_are_named(store: Store, out: Path) -> None:
    rows = [row for row in store.exports.list() if row.study_instance_uid == OTHER]
    assert compare_with_node(check_folder(out), rows) == [
        f"study {NAMES.mapped_uid(STUDY)}: this node has not exported it"
    ]
    checked = check_folder(out)
    forged = dict.fromkeys(checked.digests, "0" * 64)
    object.__setattr__(checked, "digests", forged)
    assert {one.rpartition(": ")[2] for one in compare_with_node(checked, store.exports.list())} == {
        "this node has exported other copies of it"
    }


def test_a_study_that_is_withdrawn_and_still_there_is_named(store: Store, out: Path) -> None:
    say(store, DecisionKind.HOLD)
    export(store, out, cohort=[OTHER])
    assert faults(store, out) == [
        f"study {NAMES.mapped_uid(STUDY)}: withdrawn (a person holds the study), and its copies are still here"
    ]


def test_a_folder_without_a_manifest_is_none_of_copies(tmp_path: Path) -> None:
    with pytest.raises(OutputFolderError, match=r"has no manifest\.json"):
        check_folder(tmp_path)
