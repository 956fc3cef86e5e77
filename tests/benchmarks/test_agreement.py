"""The comparison with other readers finds what differs, and says why; the page in the docs is what it finds."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import agreements
from benchmarks.agreement import Reason, compare, frames_of, nearest, reason_for
from benchmarks.other_readers import OtherVolume
from inference.series.assemble import assemble_volumes
from inference.series.volume import SourceVolume
from tests.factories import ct_series


@pytest.fixture
def source() -> SourceVolume:
    (volume,) = assemble_volumes(ct_series(8, spacing_mm=(3.0, 0.8, 0.7)))
    return volume


def other(source: SourceVolume, *, moved_mm: tuple[float, float, float] = (0, 0, 0), add: float = 0.0) -> OtherVolume:
    """The same volume with its axes in another order and direction, as another program may have it."""
    affine = source.volume.affine.copy()
    affine[:3, 3] += moved_mm + affine[:3, 1] * (source.volume.spatial_shape[1] - 1)
    affine[:3, 1] *= -1
    return OtherVolume((source.volume.array[:, ::-1] + np.float32(add)).transpose(2, 1, 0), affine[:, [2, 1, 0, 3]])


def test_the_same_voxels_in_another_order_are_the_same(source: SourceVolume) -> None:
    found = compare(source, frames_of(source), other(source))
    assert found.is_same_place
    assert found.is_same_values


def test_a_shift_is_measured(source: SourceVolume) -> None:
    found = compare(source, frames_of(source), other(source, moved_mm=(0.21, 0.0, 0.0)))
    assert found.apart_mm == pytest.approx(0.21, abs=1e-6)
    assert found.apart_voxels == pytest.approx(0.3, abs=1e-6)
    assert not found.is_rounded_place


def test_a_shift_by_a_whole_slice_is_seen_in_the_frames_outside_and_in_the_values(source: SourceVolume) -> None:
    found = compare(source, frames_of(source), other(source, moved_mm=(0.0, 0.0, 3.0)))
    assert (found.n_outside, found.is_same_place) == (1, False)
    assert found.differing > 0.1


def test_other_values_are_counted(source: SourceVolume) -> None:
    found = nearest(source, [other(source, add=5.0)])
    assert found is not None
    assert (found.differing, found.is_same_place) == (1.0, True)
    assert reason_for(source, found) is Reason.SCALED


def test_the_tilt_that_another_program_drops_is_named() -> None:
    series = ct_series(8, spacing_mm=(3.0, 0.8, 0.7), tilt_deg=15.0)
    (source,) = assemble_volumes(series)
    straight = source.volume.affine.copy()
    straight[:3, 3] = series.affine[:3, 3]
    found = compare(source, frames_of(source), OtherVolume(series.voxels.transpose(2, 1, 0), straight[:, [2, 1, 0, 3]]))
    # The last slice lies 7 x 3 mm x tan 15 degrees = 5.63 mm beside the first: some voxels, and a part of one.
    assert not found.is_rounded_place
    assert reason_for(source, found) is Reason.TILT_DROPPED


@pytest.mark.data
@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize(
    "group",
    ["ct_head_siemens_tilt4", "mr_ge_dti", "mr_ge_volume_rounding", "mr_hyperfine_enh", "mr_philips_mixed_orient"],
)
def test_the_page_has_what_is_found(shared_data, capsys: pytest.CaptureFixture[str], group: str) -> None:
    assert agreements.main([str(shared_data / "dicom"), "--only", group]) == 0
    found = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:]  # without the head
    assert found[0].startswith(f"| {group} |")
    page = agreements.PAGE.read_text(encoding="utf-8").splitlines()
    begin = next(index for index, line in enumerate(page) if line.startswith(f"| {group} |"))
    assert page[begin : begin + len(found)] == found, "run: make agreements"
