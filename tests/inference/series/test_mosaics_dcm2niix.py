"""Mosaics, real ones and synthetic ones, against dcm2niix: the same values at the same places, within 0.01 mm."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.agreement import nearest
from benchmarks.other_readers import read_with_dcm2niix
from inference.series.assemble import assemble_volumes
from inference.series.files import find_inputs
from inference.series.volume import SourceVolume
from tests.factories import EncodedInstance
from tests.mosaics import oblique_series, siemens_mosaic, united_imaging_mosaic
from tests.peer_servers import tool

pytestmark = pytest.mark.peers


def assert_dcm2niix_agrees(folder: Path) -> tuple[SourceVolume, ...]:
    """Every volume of ours is one of its volumes, each another one."""
    tool("dcm2niix")
    (series,) = find_inputs([folder]).series
    volumes = assemble_volumes(series.sources)
    others = read_with_dcm2niix(folder)
    found = [nearest(source, others) for source in volumes]
    for agreement in found:
        assert agreement is not None
        assert (agreement.n_outside, agreement.differing) == (0, 0.0)
        assert agreement.apart_mm < 0.01
    assert len({id(agreement.other) for agreement in found if agreement is not None}) == len(volumes)
    return volumes


@pytest.mark.data
@pytest.mark.parametrize("group", ["mr_siemens_mosaic_ax35", "mr_siemens_mosaic_mb_j70", "mr_uih_vframe"])
def test_a_real_series_is_what_dcm2niix_makes_of_it(real_series: Callable[[str], Path], group: str):
    assert_dcm2niix_agrees(real_series(group))


@pytest.mark.data
@pytest.mark.parametrize("file", ["12bitUnsigned.dcm", "12bitUnsigned_0x0F0F.dcm"])
def test_instances_with_one_uid_are_what_dcm2niix_makes_of_each(
    real_series: Callable[[str], Path], file: str, tmp_path: Path
):
    """The one with a sign bit is in the other tests: dcm2niix takes its negative values for large ones."""
    shutil.copy(real_series("mr_siemens_mosaic_signed12") / file, tmp_path)
    assert_dcm2niix_agrees(tmp_path)


SERIES = oblique_series(7, rows=20, columns=24)
SYNTHETIC: dict[str, Sequence[EncodedInstance]] = {
    "Siemens": [siemens_mosaic(SERIES)],
    "Siemens, last slice first": [siemens_mosaic(SERIES, is_reversed=True)],
    "Siemens, two empty rows": [siemens_mosaic(oblique_series(5, rows=20, columns=24))],
    "Siemens, time points": [siemens_mosaic(SERIES, repetition=n) for n in (1, 2, 3)],
    "United Imaging": [united_imaging_mosaic(SERIES)],
}


@pytest.mark.parametrize("name", SYNTHETIC)
def test_a_synthetic_mosaic_is_what_dcm2niix_makes_of_it(name: str, tmp_path: Path):
    for number, instance in enumerate(SYNTHETIC[name]):
        (tmp_path / f"{number}.dcm").write_bytes(instance.part10)
    (source,) = assert_dcm2niix_agrees(tmp_path)
    assert np.ptp(source.volume.array) > 0
