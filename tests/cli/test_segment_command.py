"""``dicom-node segment``: what it writes, what it says, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from typer.testing import Result

from sr_writer.codes import SEGMENT_TERMS
from tests.factories import SyntheticSeries, ct_series, mr_series
from tests.tiny_models import write_tiny_model

Run = Callable[..., Result]

BODY_ABOVE_HU = -500.0
BONE_ABOVE_HU = 750.0  # only the shell and one lump of the phantom


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Options that choose two models with known truth: everything above a value."""
    root = tmp_path_factory.mktemp("models")
    foreground = write_tiny_model(root / "foreground", "foreground", above=BODY_ABOVE_HU, spacing_mm=(2.0, 2.0, 2.0))
    anonymized = write_tiny_model(root / "anonymized", "anonymized", above=BONE_ABOVE_HU, spacing_mm=(2.0, 2.0, 2.0))
    return (
        *("--foreground-model", str(foreground)),
        *("--anonymized-model", str(anonymized)),
        *("--device", "cpu", "--threads", "1"),
    )


@pytest.fixture
def segment(run: Run, tiny_models: tuple[str, ...], tmp_path: Path) -> Run:
    """Function that segments inputs into ``tmp_path / "out"`` with the tiny models."""

    def segment(*arguments: object) -> Result:
        return run("segment", *arguments, "-o", tmp_path / "out", *tiny_models)

    return segment


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def head_ct(**options: Any) -> SyntheticSeries:
    return ct_series(n_slices=20, spacing_mm=(2.0, 2.0, 2.0), **options)


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def mask_in_lps(path: Path) -> hd.Volume:
    """A NIfTI mask as a volume in LPS, by hand."""
    image = nib.load(path)
    return hd.Volume(
        np.asarray(image.dataobj), np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine, coordinate_system="PATIENT"
    )


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


def test_a_series_gets_masks_seg_sr_report_and_overlay(segment: Run, tmp_path: Path, out: Path) -> None:
    ct = head_ct()
    ct.write_to(tmp_path / "ct")

    result = segment(tmp_path / "ct")

    assert result.exit_code == 0, result.stderr
    folder = out / ct.series_instance_uid
    assert sorted(path.name for path in folder.iterdir()) == [
        "anonymized.nii.gz",
        "foreground.nii.gz",
        "overlay.png",
        "report.json",
        "seg.dcm",
        "sr.dcm",
    ]
    assert sorted(path.name for path in out.iterdir()) == [ct.series_instance_uid, "index.html", "summary.json"]
    assert f'src="{ct.series_instance_uid}/overlay.png"' in (out / "index.html").read_text()
    mask = mask_in_lps(folder / "foreground.nii.gz")
    assert mask.dtype == np.uint8
    found = mask.match_geometry(ct.truth).array.astype(bool)
    assert dice(found, ct.voxels > BODY_ABOVE_HU) > 0.97
    with Image.open(folder / "overlay.png") as overlay:
        assert (overlay.format, overlay.size) == ("PNG", (1164, 454))


def test_the_report_keeps_its_contract(segment: Run, tmp_path: Path, out: Path) -> None:
    ct = head_ct()
    ct.write_to(tmp_path / "ct")

    segment(tmp_path / "ct")

    report = read_json(out / ct.series_instance_uid / "report.json")
    mask = np.asarray(nib.load(out / ct.series_instance_uid / "foreground.nii.gz").dataobj)
    assert report["series_instance_uid"] == ct.series_instance_uid
    assert report["modality"] == "CT"
    assert report["verdict"] in {"defaced", "face_present", "indeterminate", "not_applicable"}
    assert report["foreground_ml"] == pytest.approx(np.count_nonzero(mask) * 8.0 / 1000.0)
    assert [segment["role"] for segment in report["segments"]] == ["foreground", "anonymized"]
    assert {(model["role"], model["name"]) for model in report["models"]} == {
        ("foreground", "tiny-foreground"),
        ("anonymized", "tiny-anonymized"),
    }
    assert all(len(model["sha256"]) == 64 and model["version"] for model in report["models"])
    assert all(seconds >= 0 for seconds in report["timings_s"].values())
    assert (report["generation"], report["stack_number"], report["n_stacks"]) == (1, 1, 1)


def test_the_seg_holds_the_same_voxels_as_the_nifti_masks(segment: Run, tmp_path: Path, out: Path) -> None:
    ct = head_ct()
    ct.write_to(tmp_path / "ct")

    segment(tmp_path / "ct")

    folder = out / ct.series_instance_uid
    seg = hd.seg.segread(folder / "seg.dcm")
    for role in ("foreground", "anonymized"):
        numbers = [
            number
            for number in seg.segment_numbers
            if seg.get_segment_description(number).segmented_property_type == SEGMENT_TERMS[role].property_type
        ]
        expected = mask_in_lps(folder / f"{role}.nii.gz").match_geometry(ct.truth).array
        if not numbers:
            assert not expected.any()
            continue
        found = seg.get_volume(segment_numbers=numbers, combine_segments=True).match_geometry(ct.truth).array > 0
        assert np.array_equal(found, expected > 0)
    assert seg.get_segment_description(1).segment_label == "Foreground"


def test_a_nifti_file_gets_masks_on_its_own_grid_and_no_seg(segment: Run, tmp_path: Path, out: Path) -> None:
    ct = head_ct()
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ct.affine[:, [2, 1, 0, 3]]
    image = nib.Nifti1Image(ct.voxels.transpose(2, 1, 0).astype(np.int16), affine)
    nib.save(image, tmp_path / "head one.nii.gz")

    result = segment(tmp_path / "head one.nii.gz")

    assert result.exit_code == 0, result.stderr
    folder = out / "head_one"
    mask = nib.load(folder / "foreground.nii.gz")
    assert np.array_equal(mask.affine, nib.load(tmp_path / "head one.nii.gz").affine)
    assert mask.shape == image.shape
    assert mask.get_data_dtype() == np.uint8
    assert dice(np.asarray(mask.dataobj) > 0, np.asarray(image.dataobj) > BODY_ABOVE_HU) > 0.97
    assert not (folder / "seg.dcm").exists()
    report = read_json(folder / "report.json")
    assert report["series_instance_uid"] is None


def test_what_failed_is_named_and_the_rest_is_done(segment: Run, tmp_path: Path, out: Path) -> None:
    good = head_ct()
    good.write_to(tmp_path / "good")
    gap = tmp_path / "gap"
    gap.mkdir()
    whole = mr_series(n_slices=12)
    for number, instance in enumerate([*whole[:4], *whole[10:]]):  # half of it is missing
        (gap / f"{number}.dcm").write_bytes(instance.part10)
    rubbish = tmp_path / "rubbish.dcm"
    rubbish.write_bytes(b"rubbish" * 100)

    result = segment(tmp_path / "good", gap, rubbish)

    assert result.exit_code == 3
    assert "[slice-gap]" in result.stderr
    assert f"{rubbish}: not a DICOM object" in result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    summary = read_json(out / "summary.json")
    assert {failure["code"] for failure in summary["failed"]} == {"slice-gap", "not-dicom"}
    assert [volume["name"] for volume in summary["volumes"]] == [good.series_instance_uid]
    assert (out / good.series_instance_uid / "seg.dcm").is_file()


def test_a_series_in_a_zip_is_segmented_and_nothing_is_unpacked(segment: Run, tmp_path: Path, out: Path) -> None:
    ct = head_ct()
    with zipfile.ZipFile(tmp_path / "export.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for instance in ct:
            archive.writestr(f"../../{instance.name}", instance.part10)

    result = segment(tmp_path / "export.zip")

    assert result.exit_code == 0, result.stderr
    assert (out / ct.series_instance_uid / "seg.dcm").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export.zip", "out"]


def test_a_second_run_leaves_finished_volumes_alone(segment: Run, tmp_path: Path, out: Path) -> None:
    ct = head_ct()
    ct.write_to(tmp_path / "ct")
    segment(tmp_path / "ct")
    folder = out / ct.series_instance_uid
    inode = folder.stat().st_ino

    result = segment(tmp_path / "ct")

    assert result.exit_code == 0
    assert "finished earlier" in result.stderr
    assert folder.stat().st_ino == inode
    assert read_json(out / "summary.json")["volumes"][0]["status"] == "finished earlier"


def test_overwrite_does_it_again_and_gives_the_same_bytes(segment: Run, tmp_path: Path, out: Path) -> None:
    ct = head_ct()
    ct.write_to(tmp_path / "ct")
    segment(tmp_path / "ct")
    folder = out / ct.series_instance_uid
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    inode = folder.stat().st_ino

    result = segment(tmp_path / "ct", "--overwrite")

    assert "finished earlier" not in result.stderr
    assert folder.stat().st_ino != inode
    again = {path.name: path.read_bytes() for path in folder.iterdir()}
    reports = [json.loads(files.pop("report.json")) for files in (first, again)]
    for report in reports:
        del report["timings_s"]
    assert again == first
    assert reports[0] == reports[1]


def test_a_changed_series_is_segmented_again(segment: Run, tmp_path: Path, out: Path) -> None:
    ct = head_ct()
    ct.write_to(tmp_path / "ct")
    segment(tmp_path / "ct")
    before = read_json(out / ct.series_instance_uid / "report.json")["input_sha256"]
    ct.edited(lambda ds, _: setattr(ds, "KVP", "100")).write_to(tmp_path / "ct")

    assert segment(tmp_path / "ct").exit_code == 0

    assert read_json(out / ct.series_instance_uid / "report.json")["input_sha256"] != before


def test_another_file_of_the_same_name_does_not_replace_results(segment: Run, tmp_path: Path, out: Path) -> None:
    ct = head_ct()
    for subject, offset in (("a", 0), ("b", 1)):
        (tmp_path / subject).mkdir()
        voxels = ct.voxels.transpose(2, 1, 0).astype(np.int16) + offset
        nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 2.0, 2.0, 1.0])), tmp_path / subject / "ct.nii.gz")
    segment(tmp_path / "a" / "ct.nii.gz")
    before = (out / "ct" / "report.json").read_bytes()

    result = segment(tmp_path / "b" / "ct.nii.gz")

    assert result.exit_code == 3
    assert "[output-taken]" in result.stderr
    assert (out / "ct" / "report.json").read_bytes() == before


def test_what_a_killed_run_left_is_not_taken_for_a_result(segment: Run, tmp_path: Path, out: Path) -> None:
    ct = head_ct()
    ct.write_to(tmp_path / "ct")
    half_done = out / f".partial-{ct.series_instance_uid}"
    half_done.mkdir(parents=True)
    (half_done / "report.json").write_text("{")
    (out / ct.series_instance_uid).mkdir()
    (out / ct.series_instance_uid / "report.json").write_text("{")

    assert segment(tmp_path / "ct").exit_code == 0

    assert not half_done.exists()
    assert read_json(out / ct.series_instance_uid / "report.json")["modality"] == "CT"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupt", "kill"])
def test_a_stopped_run_leaves_whole_volumes_and_goes_on(
    segment: Run, tiny_models: tuple[str, ...], tmp_path: Path, out: Path, number: signal.Signals
) -> None:
    for subject in range(6):
        path = tmp_path / "in" / f"subject{subject}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        voxels = head_ct(seed=str(subject)).voxels.transpose(2, 1, 0).astype(np.int16) + subject
        nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 2.0, 2.0, 1.0])), path)
    command = [sys.executable, "-m", "dicom_node.cli", "segment", str(tmp_path / "in"), "-o", str(out), *tiny_models]

    # A test run in the background of a shell ignores SIGINT, and so would what it starts.
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("[1/6] subject0")
    process.send_signal(number)
    said = process.stderr.read()
    process.wait(timeout=240)
    process.stderr.close()

    assert process.returncode == (130 if number is signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in said
    finished = [path for path in out.iterdir() if not path.name.startswith(".")]
    assert 1 <= len(finished) < 6
    assert all((path / "report.json").is_file() and (path / "overlay.png").is_file() for path in finished)
    again = segment(tmp_path / "in")
    assert again.exit_code == 0, again.stderr
    assert again.stderr.count("finished earlier") == len(finished)
    assert sorted(path.name for path in out.iterdir()) == [
        "index.html",
        *(f"subject{n}" for n in range(6)),
        "summary.json",
    ]


def test_many_objects_of_a_kind_are_counted_not_listed(segment: Run, tmp_path: Path, out: Path) -> None:
    head_ct().write_to(tmp_path / "ct")
    for number in range(9):
        (tmp_path / "ct" / f"broken{number}.dcm").write_bytes(b"broken")

    result = segment(tmp_path / "ct")

    assert result.exit_code == 3
    assert len([line for line in result.stderr.splitlines() if line.startswith("error: ")]) == 2
    assert f"{tmp_path / 'ct'}: 8 more like it" in result.stderr
    assert len(read_json(out / "summary.json")["failed"]) == 9


def test_nothing_found_is_said_in_report_and_sr_and_no_seg_is_written(run: Run, tmp_path: Path, out: Path) -> None:
    ct = head_ct()
    ct.write_to(tmp_path / "ct")
    blind = [write_tiny_model(tmp_path / role, role, above=1e6) for role in ("foreground", "anonymized")]

    result = run(
        *("segment", tmp_path / "ct", "-o", out, "--threads", 1, "--device", "cpu"),
        *("--foreground-model", blind[0], "--anonymized-model", blind[1]),
    )

    assert result.exit_code == 0, result.stderr
    folder = out / ct.series_instance_uid
    report = read_json(folder / "report.json")
    assert (report["foreground_ml"], report["anonymized_ml"]) == (0.0, 0.0)
    assert [(each["role"], each["is_found"], each["segment_number"]) for each in report["segments"]] == [
        ("foreground", False, None),
        ("anonymized", False, None),
    ]
    assert not (folder / "seg.dcm").exists()
    assert dcmread(folder / "sr.dcm").Modality == "SR"
    assert not np.asarray(nib.load(folder / "anonymized.nii.gz").dataobj).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", "-o", "out"), "nowhere: no such file or folder"),
        ((".", "-o", "file"), "file: is a file, a folder is wanted"),
        ((".", "-o", "out", "--foreground-model", "nowhere"), "error: model file nowhere/model.yaml is missing"),
        ((".", "-o", "out", "--device", "tpu"), "'tpu' is not one of"),
    ],
)
def test_wrong_usage_ends_with_2_before_anything_is_done(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()

    result = run("segment", *arguments)

    assert result.exit_code == 2
    assert message in result.stderr
    assert not Path("out").exists()


def test_a_program_sees_lines_and_a_terminal_a_bar(tiny_models: tuple[str, ...], tmp_path: Path) -> None:
    head_ct().write_to(tmp_path / "ct")
    command = [sys.executable, "-m", "dicom_node.cli", "segment", str(tmp_path / "ct"), "-o", str(tmp_path / "out")]

    piped = subprocess.run([*command, *tiny_models], capture_output=True, text=True, timeout=240, check=True)
    controller, terminal = os.openpty()
    process = subprocess.Popen(
        [*command, *tiny_models, "--overwrite"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "160"},
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            fragment = os.read(controller, 65536)
        except OSError:  # the terminal's last user is gone
            break
        if not fragment:
            break
        shown += fragment
    os.close(controller)
    process.communicate(timeout=240)

    assert process.returncode == 0
    assert piped.stderr.startswith("[1/1] ")
    assert "\x1b" not in piped.stderr
    assert "━".encode() in shown
    assert b"foreground" in shown
