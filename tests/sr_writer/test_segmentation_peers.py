"""Other toolkits on our SEG: dciodvfy judges it, dcmqi (ITK, dcmtk) reads its voxels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.dataset import Dataset

from sr_writer.objects import WrittenObject
from tests.factories import CORONAL, SAGITTAL, SyntheticSeries, ct_series, mr_series
from tests.peer_servers import tool
from tests.sr_writer.writing import headers_of, lps_points, masks_on, write

pytestmark = pytest.mark.peers

OBLIQUE = (0.8137976813493738, 0.4698463103929542, -0.3420201433256687, -0.5, 0.8660254037844387, 0.0)
SERIES = {
    "axial CT": lambda: ct_series(7, rows=11, columns=13),
    "sagittal MR": lambda: mr_series(6, rows=8, columns=16, orientation=SAGITTAL),
    "coronal MR": lambda: mr_series(6, rows=9, columns=7, orientation=CORONAL),
    "oblique MR": lambda: mr_series(6, rows=9, columns=7, orientation=OBLIQUE),
    "feet first": lambda: ct_series(6, rows=9, columns=7, orientation=(-1.0, 0, 0, 0, 1.0, 0)),
}


def dcmqi_points(written: WrittenObject, folder: Path) -> dict[int, set[tuple[float, ...]]]:
    """LPS points of every segment as dcmqi's ``segimage2itkimage`` reads them, by segment number."""
    path = folder / "seg.dcm"
    path.write_bytes(written.part10())
    program = Path(sys.prefix, "bin", "segimage2itkimage")
    done = subprocess.run(
        [str(program), "--inputDICOM", str(path), "--outputDirectory", str(folder), "--outputType", "nrrd"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    points = {}
    for image_path in sorted(folder.glob("*.nrrd")):
        image = sitk.ReadImage(image_path)
        direction = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
        affine = np.eye(4)
        affine[:3, :3] = direction[:, ::-1]  # ITK lists x first, our arrays list slices first
        affine[:3, 3] = image.GetOrigin()
        array = sitk.GetArrayFromImage(image)
        points[int(array.max())] = lps_points(array > 0, affine)
    return points


def near(points: set[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Sorted and rounded to 0.01 mm: two toolkits may round the third decimal differently."""
    return sorted(tuple(np.round(point, 2) + 0.0) for point in points)


@pytest.mark.parametrize("name", SERIES)
def test_dcmqi_reads_our_voxels_in_place(name: str, tmp_path: Path) -> None:
    series = SERIES[name]()
    foreground, anonymized = masks_on(series.voxels.shape)
    written = write(headers_of(series), series.truth.get_geometry(), foreground, anonymized)
    assert written is not None
    found = dcmqi_points(written, tmp_path)
    assert near(found[1]) == near(lps_points(foreground, series.affine))
    assert near(found[2]) == near(lps_points(anonymized, series.affine))


def complaints_of_dciodvfy(written: WrittenObject, folder: Path) -> list[str]:
    path = folder / "seg.dcm"
    path.write_bytes(written.part10())
    done = subprocess.run([tool("dciodvfy"), "-new", str(path)], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    assert "Segmentation" in lines, done
    # The private coding scheme is not in its table.
    return [line for line in lines if line != "Segmentation" and "<99DICOMNODE>" not in line]


def _with_everything(ds: Dataset, _: int) -> None:
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = "test"
    ds.TimezoneOffsetFromUTC = "+0100"
    ds.StudyDescription = "Schädel"
    ds.PatientAge = "050Y"
    ds.PatientWeight = "70"
    ds.LossyImageCompression = "01"
    ds.LossyImageCompressionRatio = "10"
    ds.LossyImageCompressionMethod = "ISO_10918_1"


@pytest.mark.parametrize(
    "series",
    [ct_series(5, rows=9, columns=7), mr_series(5), ct_series(5, edit=_with_everything)],
    ids=["CT", "MR", "CT with optional attributes"],
)
@pytest.mark.parametrize("segments", ["both", "foreground", "anonymized"])
def test_dciodvfy_has_no_complaint(series: SyntheticSeries, segments: str, tmp_path: Path) -> None:
    foreground, anonymized = masks_on(series.voxels.shape)
    if segments == "foreground":
        anonymized[:] = False
    if segments == "anonymized":
        foreground[:] = False
    geometry = series.truth.get_geometry()
    written = write(headers_of(series), geometry, foreground, anonymized, is_face_anonymized=True)
    assert written is not None
    assert complaints_of_dciodvfy(written, tmp_path) == []


@pytest.mark.data
def test_a_real_enhanced_mr_goes_through_both(real_series, tmp_path: Path) -> None:
    (path,) = (p for p in sorted(real_series("mr_enh_xa30_t1").rglob("*")) if p.is_file())
    image = hd.imread(path)
    volume_geometry = image.get_volume_geometry()
    assert volume_geometry is not None
    header = dcmread(path, stop_before_pixels=True)
    foreground, anonymized = np.zeros((2, *volume_geometry.spatial_shape), dtype=bool)
    foreground[5:60, 30:45, 20:33], anonymized[40:80, 40:50, 31:44] = True, True
    written = write([header], volume_geometry, foreground, anonymized)
    assert written is not None
    found = dcmqi_points(written, tmp_path)
    assert near(found[1]) == near(lps_points(foreground, volume_geometry.affine))
    assert near(found[2]) == near(lps_points(anonymized, volume_geometry.affine))
    # The source's name is dubious, and we keep it.
    assert [line for line in complaints_of_dciodvfy(written, tmp_path) if "PatientName" not in line] == []
