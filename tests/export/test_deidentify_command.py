"""``dicom-node deidentify``: folders in, de-identified studies and a manifest out."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.export.manifest import is_unbroken
from tests.factories import ct_series, mr_series

SECRET = "Zyxwvut^Qrstu"


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["deidentify", *map(str, arguments)])
    return result.exit_code, result.output + str(result.exception or "")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "study.key"
    path.write_bytes(bytes(range(32)))
    path.chmod(0o600)
    return path


def identified(patient_id: str = "MRN-1", name: str = SECRET) -> Callable[[Dataset, int], None]:
    def edit(ds: Dataset, _: int) -> None:
        ds.PatientID, ds.PatientName = patient_id, name
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.StudyDate = "20240110"

    return edit


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "Zyxwvut Qrstu"  # a path may name the patient
    folder.mkdir()
    for number, instance in enumerate(ct_series(n_slices=3, edit=identified())):
        (folder / f"{number}.dcm").write_bytes(instance.part10)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.dcm")}


def test_a_folder_becomes_whole_studies_and_a_manifest_without_a_value_of_the_source(
    study: Path, key: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, output = run(study, "-o", out, "--project", "HEADS", "--key-file", key, "--workers", 1)
    assert code == 0, output
    copies = files(out)
    assert len(copies) == 3
    sources = [dcmread(path) for path in sorted(study.iterdir())]
    uids = {str(ds[keyword].value) for ds in sources for keyword in ("SOPInstanceUID", "StudyInstanceUID")}
    everything = output + (out / "manifest.json").read_text() + "".join(copies)
    for secret in ("Zyxwvut", "MRN-1", *uids):
        assert secret.lower() not in everything.lower()
    assert {dcmread(BytesIO(content)).PixelData for content in copies.values()} == {ds.PixelData for ds in sources}
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["counts"]["in"] == manifest["counts"]["copied"] == 3
    assert is_unbroken(manifest)
    manifest["instances"][1]["sha256"] = "0" * 64
    assert not is_unbroken(manifest)


def test_the_same_again_makes_the_same_bytes_and_two_workers_agree(study: Path, key: Path, tmp_path: Path) -> None:
    runs = []
    for folder, workers in (("a", 1), ("b", 2), ("a", 1)):
        run(study, "-o", tmp_path / folder, "--project", "HEADS", "--key-file", key, "--workers", workers)
        runs.append(files(tmp_path / folder))
    assert runs[0] == runs[1] == runs[2]
    run(study, "-o", tmp_path / "c", "--project", "OTHER", "--key-file", key, "--workers", 1)
    assert not set(files(tmp_path / "c")) & set(runs[0])


def test_a_part_of_a_study_does_not_replace_the_copies_of_another_part(study: Path, key: Path, tmp_path: Path) -> None:
    out, later = tmp_path / "out", tmp_path / "later"
    options = ("-o", out, "--project", "HEADS", "--key-file", key, "--workers", 1)
    later.mkdir()
    (study / "2.dcm").rename(later / "2.dcm")
    assert run(study, *options)[0] == 0
    before = files(out)
    code, output = run(later, *options)
    assert (code, files(out)) == (3, before)
    assert "refused: 1 × part-of-study (file 1)" in output
    assert "0 of 1 files copied" in output
    assert run(study, later, *options)[0] == 0
    assert len(files(out)) == 3


def test_what_is_no_longer_copied_goes_when_the_same_files_are_given_again(
    study: Path, key: Path, tmp_path: Path
) -> None:
    options = ("-o", tmp_path / "out", "--project", "HEADS", "--key-file", key, "--workers", 1)
    assert run(study, *options)[0] == 0
    ds = dcmread(study / "0.dcm")
    ds.BurnedInAnnotation = "YES"
    ds.save_as(study / "0.dcm")
    assert run(study, *options)[0] == 3
    assert len(files(tmp_path / "out")) == 2


def test_a_zip_archive_is_looked_into(study: Path, key: Path, tmp_path: Path) -> None:
    archive = tmp_path / "export.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in study.iterdir():
            file.write(path, f"{SECRET}/{path.name}")
    code, output = run(archive, "-o", tmp_path / "out", "--project", "P", "--key-file", key, "--workers", 1)
    assert (code, len(files(tmp_path / "out"))) == (0, 3), output


def draw_above_the_pixels(ds: Dataset) -> None:
    ds.BitsStored, ds.HighBit = 12, 11
    ds.PixelData = b"\x00\x10\x00\x20" + ds.PixelData[4:]


REFUSALS: dict[str, Callable[[Dataset], None]] = {
    "burned-in-annotation": lambda ds: setattr(ds, "BurnedInAnnotation", "YES"),
    "image-type": lambda ds: setattr(ds, "ImageType", ["DERIVED", "SECONDARY", "SCREEN SAVE"]),
    "sop-class": lambda ds: setattr(ds, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.7"),
    "missing-uid": lambda ds: setattr(ds, "SeriesInstanceUID", ""),
    "overlay-in-pixels": lambda ds: ds.add_new(0x60000102, "US", 12),
    "unused-bits": draw_above_the_pixels,
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_what_must_not_leave_is_refused_by_name_and_the_others_go(
    reason: str, study: Path, key: Path, tmp_path: Path
) -> None:
    path = study / "1.dcm"
    ds = dcmread(path)
    REFUSALS[reason](ds)
    ds.save_as(path)
    out = tmp_path / "out"
    code, output = run(study, "-o", out, "--project", "P", "--key-file", key, "--workers", 1)
    manifest = json.loads((out / "manifest.json").read_text())
    assert (code, [one["code"] for one in manifest["refused"]]) == (3, [reason]), output
    assert manifest["refused"][0]["file_number"] == 2
    assert len(files(out)) == 2
    assert f"1 × {reason}" in output
    assert "Zyxwvut" not in output


@pytest.mark.parametrize("patient_id", ["", "ANON", "0000", "unknown"])
def test_a_patient_id_that_names_nobody_gives_no_pseudonym(
    patient_id: str, study: Path, key: Path, tmp_path: Path
) -> None:
    for path in study.iterdir():
        ds = dcmread(path)
        ds.PatientID = patient_id
        ds.save_as(path)
    code, output = run(study, "-o", tmp_path / "out", "--project", "P", "--key-file", key, "--workers", 1)
    assert (code, "3 × no-patient-id" in output, files(tmp_path / "out")) == (3, True, {})


def test_a_patient_who_is_named_like_a_kept_word_stays_in(study: Path, key: Path, tmp_path: Path) -> None:
    """A kept text equals the patient's name: the second look finds it, whatever the rules said."""
    for path in study.iterdir():
        ds = dcmread(path)
        ds.PatientName = "Lunge^Harald"
        ds.RescaleType = "HU"
        ds.SegmentLabel = "Foreground"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.SeriesNumber = 480123
        ds.PatientID = "480123"
        ds.save_as(path)
    out = tmp_path / "out"
    code, output = run(study, "-o", out, "--project", "P", "--key-file", key, "--workers", 1)
    manifest = json.loads((out / "manifest.json").read_text())
    assert (code, manifest["counts"]["refused_by_code"]) == (3, {"residue": 3}), output
    assert not files(out)


def test_a_study_whose_patient_has_an_issuer_in_some_files_only_stays_and_says_so(
    study: Path, key: Path, tmp_path: Path
) -> None:
    ds = dcmread(study / "1.dcm")
    ds.IssuerOfPatientID = SECRET
    ds.save_as(study / "1.dcm")
    out = tmp_path / "out"
    code, output = run(study, "-o", out, "--project", "P", "--key-file", key, "--workers", 1)
    refused = json.loads((out / "manifest.json").read_text())["refused"]
    assert (code, {one["code"] for one in refused}) == (3, {"two-patients"}), output
    assert all("differ in Issuer of Patient ID, " in one["reason"] for one in refused)
    assert SECRET not in output + str(refused)


def test_two_patients_in_one_study_and_two_contents_of_one_instance_stay_in(
    study: Path, key: Path, tmp_path: Path
) -> None:
    mixed = mr_series(n_slices=2, edit=identified("MRN-2"), seed="other")
    for number, instance in enumerate(mixed):
        ds = instance.dataset()
        if number:
            ds.PatientID = "MRN-3"
        ds.save_as(study / f"mixed{number}.dcm", enforce_file_format=True)
    shutil.copy(study / "0.dcm", study / "again.dcm")
    changed = dcmread(study / "1.dcm")
    changed.SeriesDescription = "other content"
    changed.save_as(study / "z.dcm")
    out = tmp_path / "out"
    code, _ = run(study, "-o", out, "--project", "P", "--key-file", key, "--workers", 1)
    manifest = json.loads((out / "manifest.json").read_text())
    assert code == 3
    assert Counter(one["code"] for one in manifest["refused"]) == {"two-patients": 2, "conflict": 1}
    assert manifest["counts"]["duplicates"] == 1


def test_files_without_a_study_are_not_taken_for_one_study_of_several_patients(
    study: Path, key: Path, tmp_path: Path
) -> None:
    for number, instance in enumerate(ct_series(n_slices=2, seed="lost")):
        ds = instance.dataset()
        ds.PatientID, ds.StudyInstanceUID = f"MRN-7{number}", ""
        ds.save_as(study / f"lost{number}.dcm", enforce_file_format=True)
    out = tmp_path / "out"
    code, output = run(study, "-o", out, "--project", "P", "--key-file", key, "--workers", 1)
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    assert (code, counts["copied"], counts["refused_by_code"]) == (3, 3, {"missing-uid": 2}), output


def test_a_key_that_others_can_read_is_too_short_or_has_changed_stops_all(
    study: Path, key: Path, tmp_path: Path
) -> None:
    arguments = (study, "-o", tmp_path / "out", "--project", "P", "--key-file", key, "--workers", 1)
    key.chmod(0o644)
    assert "other users can use it" in run(*arguments)[1]
    assert not (tmp_path / "out").exists()
    key.chmod(0o600)
    assert run(*arguments)[0] == 0
    key.write_bytes(bytes(range(1, 33)))
    assert "another key" in run(*arguments)[1]
    key.write_bytes(b"short")
    assert "has 5 bytes, expected 32 to 4096" in run(*arguments)[1]
    key.unlink()
    assert "no such file" in run(*arguments)[1]


def test_a_folder_with_other_files_is_not_written_into(study: Path, key: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    _, output = run(study, "-o", tmp_path / "out", "--project", "P", "--key-file", key, "--workers", 1)
    assert "holds files, but none that this command made" in output
    assert (tmp_path / "out" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("sop_classes: [CTImageStorage]", "name"),
        ("name: x\nsop_classes: []\ndates: never", "dates"),
        ("- 1", "mapping"),
        ("{", "YAML"),
    ],
)
def test_a_profile_that_cannot_be_used_is_named(
    content: str, told: str, study: Path, key: Path, tmp_path: Path
) -> None:
    profile = tmp_path / "profile.yaml"
    profile.write_text(content)
    _, output = run(study, "-o", tmp_path / "out", "--project", "P", "--key-file", key, "--profile", profile)
    assert "profile profile.yaml" in output
    assert told in output


@pytest.mark.data
@pytest.mark.peers
@pytest.mark.parametrize(
    "group", ["ct_head_siemens_tilt4", "mr_enh_xa30_t1", "neg_seg_highdicom", "mr_philips_dualecho_magphase"]
)
def test_copies_have_no_fault_that_their_sources_have_not(
    group: str, real_series: Callable[[str], Path], key: Path, tmp_path: Path
) -> None:
    """dciodvfy on source and copy: de-identification adds no error to any object of a real series."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number, path in enumerate(sorted(real_series(group).rglob("*.dcm"))[:3]):
        ds = dcmread(path)
        ds.PatientID = "MRN-77"
        if "ImageType" in ds and ds.SOPClassUID != "1.2.840.10008.5.1.4.1.1.66.4":
            ds.ImageType = ["ORIGINAL", "PRIMARY", *list(ds.ImageType)[2:]]
        ds.save_as(folder / f"{number}.dcm")
    out = tmp_path / "out"
    _, output = run(folder, "-o", out, "--project", "P", "--key-file", key, "--workers", 1)
    copies = sorted(out.rglob("*.dcm"))
    assert copies, output
    worst = max(errors(path) for path in folder.iterdir())
    for path in copies:
        assert errors(path) <= worst


def errors(path: Path) -> int:
    told = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace", check=False)
    return sum(line.startswith("Error") for line in told.stderr.splitlines())
