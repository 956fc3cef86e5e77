"""What an offline run finds in its inputs, and what it calls a failure."""

from __future__ import annotations

import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from dicom_node.offline.items import nifti_stem
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


APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(80)


def test_what_operating_systems_leave_has_not_failed_even_where_a_shell_named_it(tmp_path: Path) -> None:
    ct_series().write_to(tmp_path / "ct")
    for name in ("._IM1.dcm", "Thumbs.db", "__MACOSX/._IM1.dcm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(APPLE_DOUBLE)

    survey = survey_inputs(sorted(tmp_path.iterdir()))

    assert len(survey.items) == 1
    assert survey.failed == ()
    assert [(Path(one.name).name, one.code) for one in survey.not_used] == [
        ("._IM1.dcm", "system-file"),
        ("Thumbs.db", "system-file"),
        ("__MACOSX", "system-file"),
    ]


def test_a_linked_dataset_is_named_by_its_visible_paths(tmp_path: Path) -> None:
    key = "MD5E-s1--75cab8005361c2504ba5a7f02ecbacd7.nii.gz"
    write_nifti(tmp_path / ".git" / "annex" / "objects" / "KM" / "vk" / key / key)
    (tmp_path / "sub-01" / "anat").mkdir(parents=True)
    (tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz").symlink_to(f"../../.git/annex/objects/KM/vk/{key}/{key}")
    (tmp_path / "sub-02").mkdir()
    (tmp_path / "sub-02" / "sub-02_T1w.nii.gz").symlink_to("../.git/annex/objects/aa/bb/MD5E-s2/MD5E-s2")

    survey = survey_inputs([tmp_path])

    assert [item.name for item in survey.items] == ["sub-01_T1w"]
    assert [(Path(one.name).name, one.code) for one in survey.failed] == [("sub-02_T1w.nii.gz", "content-not-fetched")]
    assert [(Path(one.name).name, one.code) for one in survey.not_used] == [(".git", "hidden-folder")]


def test_other_formats_in_a_folder_are_not_used_and_fail_where_they_are_named(tmp_path: Path) -> None:
    ct_series().write_to(tmp_path / "ct")
    nib.MGHImage(np.zeros((4, 5, 6), np.float32), np.eye(4)).to_filename(tmp_path / "orig.mgz")

    assert survey_inputs([tmp_path]).failed == ()
    assert [one.code for one in survey_inputs([tmp_path / "orig.mgz"]).failed] == ["other-format"]


def test_a_packed_study_in_a_folder_has_failed(tmp_path: Path) -> None:
    ct_series().write_to(tmp_path / "ct")
    (tmp_path / "more.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(600))

    assert [one.code for one in survey_inputs([tmp_path]).failed] == ["archive"]


def test_an_input_without_anything_usable_says_what_it_holds(tmp_path: Path) -> None:
    for name in ("orig.mgz", "brain.mgz"):
        nib.MGHImage(np.zeros((4, 5, 6), np.float32), np.eye(4)).to_filename(tmp_path / name)
    write_nifti(tmp_path / ".cache" / "a.nii.gz")

    (failed,) = survey_inputs([tmp_path]).failed

    brain = tmp_path / "brain"
    assert failed.reason == (
        f"{tmp_path}: holds no CT or MR series and no NIfTI file; not used: 2 × other-format, 1 × hidden-folder, "
        f"such as {brain}.mgz: a FreeSurfer image (MGH); convert it to NIfTI: nib-convert {brain}.mgz {brain}.nii.gz"
    )


def test_a_zip_without_anything_usable_fails_once(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/a.nii.gz", b"x")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("__MACOSX/x", b"x")

    codes = [(Path(one.name).name, one.code) for one in survey_inputs([tmp_path / "a.zip", tmp_path / "b.zip"]).failed]

    assert codes == [("a.nii.gz", "nifti-in-archive"), ("b.zip", "nothing-found")]


def test_a_pair_of_files_is_one_item_and_its_digest_depends_on_both(tmp_path: Path) -> None:
    digests = set()
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        nib.Nifti1Pair(np.full((4, 5, 6), number, np.int16), np.eye(4)).to_filename(folder / "head.img")
        (item,) = survey_inputs([folder]).items
        assert (item.name, item.nifti) == ("head", folder / "head.hdr")
        digests.add(item.digest())

    assert len(digests) == 2


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


@pytest.mark.parametrize(
    ("file_name", "stem"),
    [
        ("a.nii", "a"),
        ("a.nii.gz", "a"),
        ("A.NII.GZ", "A"),
        ("a.b.nii.bz2", "a.b"),
        ("nii.gz", "nii.gz"),
        ("a.hdr", "a"),
        ("a.hdr.gz", "a"),
        ("a", "a"),
    ],
)
def test_the_stem_of_a_nifti_file(file_name: str, stem: str) -> None:
    assert nifti_stem(Path(file_name)) == stem
