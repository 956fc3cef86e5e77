"""What an offline run finds in its inputs, and what it calls a failure."""

from __future__ import annotations

import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from dicom_node.offline.survey import survey_inputs
from tests.factories import ct_series, mr_series


def write_nifti(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), dtype=np.int16), np.diag([1.0, 1.0, 2.0, 1.0])), path)
    return path


def test_a_folder_a_zip_and_a_nifti_file_are_items_with_their_names(tmp_path: Path) -> None:
    ct = ct_series()
    ct.write_to(tmp_path / "study" / "ct")
    mr = mr_series()
    with zipfile.ZipFile(tmp_path / "mr.zip", "w") as archive:
        for instance in mr:
            archive.writestr(f"export/{instance.name}", instance.part10)
    nifti = write_nifti(tmp_path / "T1 of head.nii.gz")

    survey = survey_inputs([tmp_path / "study", tmp_path / "mr.zip", nifti])

    assert {item.name for item in survey.items} == {ct.series_instance_uid, mr.series_instance_uid, "T1_of_head"}
    assert survey.failed == ()


def test_two_nifti_files_of_one_name_get_different_folders(tmp_path: Path) -> None:
    paths = [write_nifti(tmp_path / subject / "t1.nii.gz") for subject in ("a", "b")]
    paths.append(write_nifti(tmp_path / "c" / "T1.nii"))

    survey = survey_inputs(paths)

    names = [item.name for item in survey.items]
    assert len({name.casefold() for name in names}) == 3
    assert names[0] == "t1"


@pytest.mark.parametrize("name", ["...nii.gz", ".nii", "summary.json.nii.gz"])
def test_no_file_name_leaves_the_output_folder_or_takes_the_summary_place(tmp_path: Path, name: str) -> None:
    survey = survey_inputs([write_nifti(tmp_path / name)])

    (item,) = survey.items
    assert item.name not in ("", ".", "..", "summary.json")
    assert not item.name.startswith(".")


def test_rubbish_named_on_the_command_line_has_failed(tmp_path: Path) -> None:
    ct_series().write_to(tmp_path / "ct")
    rubbish = tmp_path / "notes.txt"
    rubbish.write_text("not an image")

    survey = survey_inputs([tmp_path / "ct", rubbish])

    assert [(rejected.name, rejected.code) for rejected in survey.failed] == [(str(rubbish), "not-dicom")]
    assert len(survey.items) == 1


def test_rubbish_beside_the_images_is_only_not_used_unless_it_calls_itself_dicom(tmp_path: Path) -> None:
    ct_series().write_to(tmp_path)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "broken.dcm").write_bytes(b"not an image")

    survey = survey_inputs([tmp_path])

    assert [Path(rejected.name).name for rejected in survey.failed] == ["broken.dcm"]
    assert [Path(rejected.name).name for rejected in survey.not_used] == ["notes.txt"]


def test_an_input_without_anything_usable_has_failed(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    ct_series().write_to(tmp_path / "ct")

    survey = survey_inputs([tmp_path / "ct", empty])

    assert [(rejected.name, rejected.code) for rejected in survey.failed] == [(str(empty), "nothing-found")]


def test_the_same_input_twice_is_done_once_and_has_not_failed(tmp_path: Path) -> None:
    ct_series().write_to(tmp_path / "ct")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "ct")

    survey = survey_inputs([tmp_path / "ct", tmp_path / "ct", link])

    assert len(survey.items) == 1
    assert survey.failed == ()


def test_the_working_directory_is_an_input_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ct_series().write_to(tmp_path / "ct")
    monkeypatch.chdir(tmp_path)

    survey = survey_inputs([Path()])

    assert len(survey.items) == 1
    assert survey.failed == ()


def test_the_digest_depends_on_contents_not_on_names_or_packing(tmp_path: Path) -> None:
    ct = ct_series()
    ct.write_to(tmp_path / "ct")
    with zipfile.ZipFile(tmp_path / "ct.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, instance in enumerate(reversed(ct.instances)):
            archive.writestr(f"{number}", instance.part10)
    other = ct.edited(lambda ds, _: setattr(ds, "KVP", "100"))
    other.write_to(tmp_path / "other")

    folder, packed, changed = (survey_inputs([tmp_path / name]).items[0].digest() for name in ("ct", "ct.zip", "other"))

    assert folder == packed
    assert folder != changed
