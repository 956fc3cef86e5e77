"""Results of mosaics: every voxel of a mask lies where the tile's voxel lies, and other toolkits read it there."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
import torch
from pydicom import dcmread

from dicom_node.pipeline_digest import pipeline_digest
from dicom_node.processing import frames_of, process_series
from inference.models import read_model_spec
from inference.segment import load_models
from inference.series.assemble import assemble_volumes
from sr_writer.objects import WrittenObject
from tests.factories import EncodedInstance, SyntheticSeries, mr_series
from tests.mosaics import SPACING_MM, oblique_series, siemens_mosaic, united_imaging_mosaic
from tests.sphere_phantom import Sphere, points_of, segment_points
from tests.sr_writer.test_segmentation_peers import complaints_of_dciodvfy, dcmqi_points
from tests.sr_writer.writing import WRITTEN_AT, write
from tests.tiny_models import write_tiny_model

SHAPE = (9, 22, 26)
SPHERE_VALUE, BETWEEN = 1000, 500

MAKERS = pytest.mark.parametrize(
    "make",
    [siemens_mosaic, lambda series: siemens_mosaic(series, is_reversed=True), united_imaging_mosaic],
    ids=["Siemens", "Siemens, last slice first", "United Imaging"],
)
Maker = Callable[[SyntheticSeries], EncodedInstance]


def sphere_in_oblique_slices() -> tuple[SyntheticSeries, Sphere]:
    """An oblique MR series with a sphere away from the middle along each axis."""
    plain = oblique_series(*SHAPE)
    points = points_of(SHAPE, plain.affine)
    sphere = Sphere(points.reshape(-1, 3).mean(axis=0) + np.array([2.0, -1.5, 2.5]), 8.0)
    voxels = np.where(sphere.holds(points), SPHERE_VALUE, 0).astype(np.float32)
    orientation = plain[0].dataset().ImageOrientationPatient
    return mr_series(
        SHAPE[0], rows=SHAPE[1], columns=SHAPE[2], spacing_mm=SPACING_MM, orientation=orientation, voxels=voxels
    ), sphere


SERIES, SPHERE = sphere_in_oblique_slices()
EXPECTED = points_of(SHAPE, SERIES.affine)[SERIES.voxels > BETWEEN]


def seg_of(mosaic: EncodedInstance) -> WrittenObject:
    """SEG of all voxels of the sphere, found in the volume that was made of the mosaic."""
    (source,) = assemble_volumes([mosaic])
    mask = np.asarray(source.volume.array > BETWEEN)
    written = write(source.headers, frames_of(source), mask, np.zeros_like(mask), plane_sources=source.plane_sources)  # type: ignore[arg-type]
    assert written is not None
    return written


def in_order(points: np.ndarray) -> np.ndarray:
    """Sorted by place, so that two sets of points can be compared."""
    return points[np.lexsort(np.round(points, 3).T)]


@MAKERS
def test_the_mask_of_a_mosaic_lies_on_the_sphere(make: Maker):
    mosaic = make(SERIES)
    (found,) = segment_points(seg_of(mosaic).part10()).values()
    np.testing.assert_allclose(in_order(found), in_order(EXPECTED), atol=1e-4)


@MAKERS
def test_each_frame_is_a_tile_and_names_the_mosaic(make: Maker):
    mosaic = make(SERIES)
    source = mosaic.dataset()
    ds = dcmread(BytesIO(seg_of(mosaic).part10()))
    assert (ds.Rows, ds.Columns) == SHAPE[1:]
    (series,) = ds.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence] == [source.SOPInstanceUID]
    assert len(ds.PerFrameFunctionalGroupsSequence) > 3
    for frame in ds.PerFrameFunctionalGroupsSequence:
        (reference,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert "ReferencedFrameNumber" not in reference
        assert reference.SpatialLocationsPreserved == "NO"


@MAKERS
def test_highdicom_reads_the_mask_in_place(make: Maker):
    volume = hd.seg.segread(BytesIO(seg_of(make(SERIES)).part10())).get_volume()
    inside = points_of(volume.spatial_shape, volume.affine)[volume.array[..., 0] > 0]
    np.testing.assert_allclose(in_order(inside), in_order(EXPECTED), atol=1e-4)


@pytest.mark.peers
@MAKERS
def test_dcmqi_reads_the_mask_in_place_and_dciodvfy_has_no_complaint(make: Maker, tmp_path: Path):
    written = seg_of(make(SERIES))
    assert complaints_of_dciodvfy(written, tmp_path) == []
    found = np.array(sorted(dcmqi_points(written, tmp_path)[1]))
    np.testing.assert_allclose(in_order(found), in_order(EXPECTED), atol=0.01)


def test_a_network_finds_the_sphere_in_a_mosaic(tmp_path: Path):
    torch.set_num_threads(1)
    models = load_models(
        read_model_spec(write_tiny_model(tmp_path / "f", "foreground", above=BETWEEN, spacing_mm=SPACING_MM)),
        read_model_spec(write_tiny_model(tmp_path / "a", "anonymized", above=1e6, spacing_mm=SPACING_MM)),
        device="cpu",
    )
    mosaics = [siemens_mosaic(SERIES, repetition=number) for number in (1, 2)]
    (volume,) = process_series(
        mosaics, models, generation=1, pipeline_digest=pipeline_digest(models.identities), written_at=WRITTEN_AT
    )
    ((uid, found),) = segment_points(volume.objects[0].part10()).items()
    assert uid == mosaics[0].dataset().SOPInstanceUID
    offset_mm = found.mean(axis=0) - SPHERE.centre_mm
    assert np.abs(np.linalg.solve(SERIES.affine[:3, :3], offset_mm)).max() < 0.1
    assert {remark["code"] for remark in volume.report.as_json()["remarks"]} >= {"several-stacks", "repeats-not-run"}
    assert volume.report.as_json()["n_frames"] == SHAPE[0]
