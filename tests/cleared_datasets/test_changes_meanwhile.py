"""``dataset --studies cleared``: what changes while it runs stays out, and a run that was cut short is completed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from dicom_node.cleared_datasets import series_task
from dicom_node.cleared_datasets.publishing import Published, Publisher
from dicom_node.cleared_datasets.run import Progress
from dicom_node.export.errors import KeyFileError, OutputFolderError
from dicom_node.export.pseudonyms import Pseudonyms
from dicom_node.store import DecisionKind, ExportState, ObjectsUnavailableError, Store
from tests.arrivals import receive
from tests.cleared_datasets.conftest import OPTIONS, make, outcomes, receive_and_look, study_of
from tests.export.clearing import NAMES, NOW, export, say

ONE, TWO = study_of("one"), study_of("two", patient="MRN-2")


@pytest.fixture
def filled(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    receive_and_look(store, monkeypatch, (ONE, TWO))
    return store


def contents(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def send_late(store: Store) -> None:
    late = study_of("late", study="one", patient="MRN-1")
    receive(store, late[:1], at=NOW)


def hold(store: Store) -> None:
    say(store, ONE, DecisionKind.HOLD)


@pytest.mark.parametrize("change", [send_late, hold])
def test_a_study_that_changes_while_its_volumes_are_written_stays(
    filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Store], None]
) -> None:
    write = series_task.write_volume

    def slow(*arguments: object, **options: object) -> object:
        monkeypatch.setattr(series_task, "write_volume", write)
        change(filled)
        return write(*arguments, **options)

    monkeypatch.setattr(series_task, "write_volume", slow)
    manifest = make(filled, tmp_path / "out", cohort=[ONE.study_instance_uid, TWO.study_instance_uid])

    assert outcomes(manifest, (ONE, TWO)) == ["changed-meanwhile", "exported"]
    assert [path.name for path in (tmp_path / "out" / "volumes").iterdir()] == [manifest["volumes"][0]["id"]]
    assert filled.exports.list(study_instance_uids=[ONE.study_instance_uid]) == ()


def test_a_study_that_changes_before_the_layouts_are_written_is_withdrawn(
    filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = Publisher.publish

    def publish_and_hold(publisher: Publisher, uid: str, *arguments: object) -> Published | None:
        published = publish(publisher, uid, *arguments)
        if uid == ONE.study_instance_uid:
            hold(filled)
        return published

    monkeypatch.setattr(Publisher, "publish", publish_and_hold)
    manifest = make(filled, tmp_path / "out")

    assert outcomes(manifest, (ONE, TWO)) == ["withdrawn", "exported"]
    assert [one["study"] for one in manifest["withdrawn"]] == [NAMES.mapped_uid(ONE.study_instance_uid)]
    assert len(list((tmp_path / "out" / "volumes").iterdir())) == 1
    (row,) = filled.exports.list(study_instance_uids=[ONE.study_instance_uid])
    assert row.state is ExportState.WITHDRAWN


def test_the_next_run_takes_away_what_may_no_longer_leave(filled: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    before = make(filled, out)
    prepared = [out / "prepared" / "settings" / one["id"] for one in before["volumes"]]  # as pretraining writes them
    for folder in prepared:
        folder.mkdir(parents=True)
    (out / "volumes" / ".DS_Store").touch()
    hold(filled)

    manifest = make(filled, out)

    assert before["n_volumes"] == 2
    assert outcomes(manifest, (ONE, TWO)) == ["not-cleared", "exported"]
    assert [one["study"] for one in manifest["withdrawn"]] == [NAMES.mapped_uid(ONE.study_instance_uid)]
    (kept,) = manifest["volumes"]
    assert {path.name for path in (out / "volumes").iterdir()} == {kept["id"], ".DS_Store"}
    assert [path.name for path in prepared if path.exists()] == [kept["id"]]
    links = [path for path in out.rglob("*") if path.is_symlink()]
    assert links
    assert all(path.exists() for path in links)
    assert manifest["n_new"] == 0


def test_objects_that_are_away_take_no_volume_of_an_earlier_run_along(
    filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    make(filled, out)
    before = contents(out)

    def be_away(*_: object, **__: object) -> NoReturn:
        raise ObjectsUnavailableError("s3://images", "it cannot be reached")

    monkeypatch.setattr(type(filled.objects), "open", be_away)
    with pytest.raises(ObjectsUnavailableError):
        make(filled, out)
    assert contents(out) == before


def test_the_same_studies_give_the_same_bytes_in_any_number_of_processes(filled: Store, tmp_path: Path) -> None:
    make(filled, tmp_path / "out")
    make(filled, tmp_path / "again", options=replace(OPTIONS, workers=2))

    assert contents(tmp_path / "again") == contents(tmp_path / "out")


def test_a_run_that_was_cut_short_is_completed_and_nothing_partial_is_seen(filled: Store, tmp_path: Path) -> None:
    make(filled, tmp_path / "whole")
    out = tmp_path / "out"

    def interrupt(_: str, __: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(filled, out, progress=Progress(study=interrupt))
    (first,) = (out / "volumes").iterdir()
    assert not (out / "manifest.json").exists()
    written_ns = (first / "image.nii.gz").stat().st_mtime_ns

    manifest = make(filled, out)

    assert manifest["n_new"] == 1
    assert (first / "image.nii.gz").stat().st_mtime_ns == written_ns
    assert contents(out) == contents(tmp_path / "whole")


def test_a_project_has_one_key_and_a_folder_one_project(filled: Store, tmp_path: Path) -> None:
    export(filled, tmp_path / "copies")

    with pytest.raises(KeyFileError, match="not the one with which this project was exported"):
        make(filled, tmp_path / "out", pseudonyms=Pseudonyms("HEADS", bytes(range(1, 33))))
    with pytest.raises(OutputFolderError, match="made with another key or for another project"):
        make(filled, tmp_path / "copies", pseudonyms=Pseudonyms("OTHER", NAMES.key))
    with pytest.raises(OutputFolderError, match="holds copies of an export"):
        make(filled, tmp_path / "copies")
    assert json.loads((tmp_path / "copies" / "manifest.json").read_text())["counts"]["copied"] > 0
