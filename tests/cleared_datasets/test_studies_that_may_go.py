"""``dataset --studies cleared``: which studies go, what their volumes hold, and what names them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.export.pseudonyms import Pseudonyms
from dicom_node.store import DecisionKind, ExportState, Store
from tests.arrivals import receive
from tests.cleared_datasets.conftest import make, outcomes, receive_and_look, study_of
from tests.datasets.conftest import ALTERED, BODY, N_ALTERED, N_BODY
from tests.export.clearing import NAMES, NOW, export, say

CLEARED = study_of("cleared")
BLOCKED = study_of("blocked", "face")
UNSURE = study_of("unsure", "unsure")
HELD = study_of("held")
RELEASED = study_of("released", "unsure", patient="MRN-2")
OPEN = study_of("open")
ALL = (CLEARED, BLOCKED, UNSURE, HELD, RELEASED, OPEN)


@pytest.fixture
def filled(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A study in each state."""
    receive_and_look(store, monkeypatch, (CLEARED, BLOCKED, UNSURE, HELD, RELEASED))
    say(store, HELD, DecisionKind.HOLD)
    say(store, RELEASED, DecisionKind.RELEASE)
    receive(store, OPEN, at=NOW)
    return store


def test_exactly_the_studies_that_may_leave_are_in_it_with_the_nodes_masks(filled: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = make(filled, out)

    stays = "not-cleared"
    assert outcomes(manifest, ALL) == ["exported", stays, stays, stays, "exported", stays]
    assert len(list((out / "volumes").iterdir())) == manifest["n_volumes"] == 2
    volume = _volume_of(manifest, CLEARED.study_instance_uid)
    assert (volume["verdict"], volume["modality"]) == ("defaced", "CT")
    image, altered, background = (_voxels(out, volume, f"{name}.nii.gz") for name in ("image", "altered", "background"))
    np.testing.assert_array_equal(image, CLEARED.voxels.astype(image.dtype))
    assert np.count_nonzero(altered) == np.count_nonzero(altered[ALTERED]) == N_ALTERED
    assert np.count_nonzero(background == 0) == np.count_nonzero(background[BODY] == 0) == N_BODY
    dataset = json.loads((out / "nnunet" / "Dataset901_Node" / "dataset.json").read_text())
    assert dataset["numTraining"] == 2


def test_no_file_holds_what_identifies_a_patient_or_an_object(filled: Store, tmp_path: Path) -> None:
    manifest = make(filled, tmp_path / "out")

    secrets = [b"MRN-", b"Zyxwvut", b"Ann"]
    for series in ALL:
        ds = series[0].dataset()
        secrets += [str(ds[keyword].value).encode() for keyword in ("StudyInstanceUID", "SeriesInstanceUID")]
        secrets.append(str(ds.SOPInstanceUID).encode())
    n_files = 0
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            content = gzip.decompress(content) if path.suffix == ".gz" else content
            assert not [one for one in secrets if one in content or one in str(path).encode()], path
            n_files += 1
    assert n_files > 20
    assert "key" not in manifest["project"]


def test_subjects_are_named_as_the_copies_of_the_export_and_projects_share_no_name(
    filled: Store, tmp_path: Path
) -> None:
    manifest = make(filled, tmp_path / "out")
    export(filled, tmp_path / "copies")
    other = make(filled, tmp_path / "other", pseudonyms=Pseudonyms("OTHER", NAMES.key))

    patients = {f"sub-{path.name}" for path in (tmp_path / "copies").iterdir() if path.is_dir()}
    assert {one["subject"] for one in manifest["volumes"]} == patients
    assert _volume_of(manifest, CLEARED.study_instance_uid)["subject"] == f"sub-{NAMES.patient('MRN-1', '')}"
    for what in ("id", "subject", "session", "study", "result", "key"):
        assert not {one[what] for one in manifest["volumes"]} & {one[what] for one in other["volumes"]}, what


def test_it_is_recorded_as_an_export_of_its_own(filled: Store, tmp_path: Path) -> None:
    make(filled, tmp_path / "out")
    export(filled, tmp_path / "copies")

    rows = filled.exports.list(study_instance_uids=[CLEARED.study_instance_uid])
    assert [(row.target, row.state) for row in rows] == [
        (f"dataset:{tmp_path / 'out'}", ExportState.PUBLISHED),
        (f"folder:{tmp_path / 'copies'}", ExportState.PUBLISHED),
    ]
    assert rows[0].copy_study_instance_uid == NAMES.mapped_uid(CLEARED.study_instance_uid)
    entries = [(one.action, one.subject, one.detail["target"]) for one in filled.audit.list() if "target" in one.detail]
    assert ("exported", CLEARED.study_instance_uid, f"dataset:{tmp_path / 'out'}") in entries
    assert not [one for one in entries if one[1] in (BLOCKED.study_instance_uid, OPEN.study_instance_uid)]


def test_a_cohort_names_the_studies(filled: Store, tmp_path: Path) -> None:
    manifest = make(filled, tmp_path / "out", cohort=[CLEARED.study_instance_uid, "1.2.404"])

    assert [one["outcome"] for one in manifest["studies"]].count("unknown-study") == 1
    assert [one["study"] for one in manifest["volumes"]] == [NAMES.mapped_uid(CLEARED.study_instance_uid)]


def test_an_image_that_the_export_would_not_copy_keeps_its_volume_out(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def burned_in(ds: Dataset) -> None:
        ds.BurnedInAnnotation = "YES"

    two = study_of("two"), study_of("text", study="two", edit=burned_in)
    only = study_of("only", edit=burned_in)
    receive_and_look(store, monkeypatch, (*two, only))

    manifest = make(store, tmp_path / "out")

    assert outcomes(manifest, (two[0], only)) == ["exported", "nothing-to-export"]
    assert [(one["result"], one["code"]) for one in manifest["refused"]] == [
        (NAMES.mapped_uid(one.series_instance_uid), "burned-in-annotation")
        for one in sorted((two[1], only), key=lambda one: NAMES.mapped_uid(one.series_instance_uid))
    ]


def test_pictures_of_refused_volumes_are_there_only_with_their_study(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tuple(slice(part.start, part.stop - 1) for part in BODY)
    two = study_of("two"), study_of("mostly-a", study="two", altered=whole)
    receive_and_look(store, monkeypatch, (*two, study_of("mostly-b", altered=whole)))

    manifest = make(store, tmp_path / "out")

    pictures = {one["result"]: one["picture"] for one in manifest["refused"]}
    assert [one["code"] for one in manifest["refused"]] == ["mostly-altered"] * 2
    assert [name for name, picture in pictures.items() if picture] == [NAMES.mapped_uid(two[1].series_instance_uid)]
    assert len(list((tmp_path / "out" / "refused").iterdir())) == 1


def test_a_study_of_two_patients_stays(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_name(ds: Dataset) -> None:
        ds.PatientName, ds.PatientBirthDate = "Other^Person", "19700101"

    one, two = study_of("one"), study_of("other", study="one", edit=other_name)
    receive_and_look(store, monkeypatch, (one, two))

    manifest = make(store, tmp_path / "out")

    assert outcomes(manifest, (one,)) == ["two-patients"]
    assert manifest["volumes"] == []


def test_an_object_that_the_store_lost_keeps_its_study(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_of("lost")
    receive_and_look(store, monkeypatch, (study,))
    (row, *_) = store.series.instances(study.series_instance_uid)
    (path,) = store.objects.folder.rglob(f"{row.digest}*")
    path.unlink()

    assert outcomes(make(store, tmp_path / "out"), (study,)) == ["sources-lost"]
    assert list((tmp_path / "out" / "volumes").iterdir()) == []


def _volume_of(manifest: dict[str, Any], study: str) -> dict[str, Any]:
    (found,) = (one for one in manifest["volumes"] if one["study"] == NAMES.mapped_uid(study))
    return found


def _voxels(out: Path, volume: dict[str, Any], file: str) -> np.ndarray:
    """Voxels as (slice, row, column), in the order of the series."""
    image = nib.load(out / "volumes" / volume["id"] / file)
    return np.asarray(image.dataobj).transpose(2, 1, 0)
