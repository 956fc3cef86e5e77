"""Mosaics of known truth: the slices of a synthetic series as tiles of one picture, as Siemens and United Imaging do.

The header is computed here from the slices' own positions, by the vendors' description and none of the project's code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from tests.csa_writer import mosaic_tags, write_csa
from tests.factories import EncodedInstance, SyntheticSeries, compress, encode, mr_series, uid_of

OBLIQUE = (0.96, 0.16, -0.23, -0.10, 0.96, 0.25)  # roughly; made orthogonal below
SPACING_MM = (3.6, 1.3, 1.1)

Edit = Callable[[Dataset], None]


def oblique_series(n_slices: int = 7, rows: int = 10, columns: int = 12) -> SyntheticSeries:
    """Slices with three different sizes and spacings, tilted about two axes."""
    row = np.array(OBLIQUE[:3]) / np.linalg.norm(OBLIQUE[:3])
    column = np.array(OBLIQUE[3:]) - (row @ OBLIQUE[3:]) * row
    orientation = np.concatenate([row, column / np.linalg.norm(column)])
    return mr_series(n_slices, rows=rows, columns=columns, spacing_mm=SPACING_MM, orientation=orientation)


def siemens_mosaic(
    series: SyntheticSeries,
    *,
    side: int | None = None,
    is_reversed: bool = False,
    csa_version: int = 2,
    repetition: int = 1,
    transfer_syntax_uid: str | None = None,
    edit: Edit | None = None,
) -> EncodedInstance:
    """One mosaic of all slices, in a square of ``side`` tiles.

    Parameters
    ----------
    is_reversed
        The first tile is the last slice, and SliceNormalVector points the other way (image numbering "H>>F").
    repetition
        Counts the time points of a series; it changes no pixel.
    edit
        Of the header, before it is encoded.
    """
    order = list(range(len(series)))[:: -1 if is_reversed else 1]
    side = side or int(np.ceil(np.sqrt(len(order))))
    ds = _picture(series, order, (side, side), repetition)
    ds.Manufacturer = "SIEMENS"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    ds.SpacingBetweenSlices = float(np.linalg.norm(series.affine[:3, 0]))
    first = series.affine @ [order[0], 0, 0, 1]
    _, rows, columns = series.voxels.shape
    # A slice of the whole picture's size around the centre of the first tile begins so much earlier.
    corner = first - series.affine @ [0, (side * rows - rows) / 2, (side * columns - columns) / 2, 0]
    ds.ImagePositionPatient = [f"{v:.10g}" for v in corner[:3]]
    normal = series.affine[:3, 0] / np.linalg.norm(series.affine[:3, 0]) * (-1 if is_reversed else 1)
    header = ds.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    header.add_new(0x0A, "US", len(order))
    csa = ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    csa.add_new(0x10, "OB", write_csa(mosaic_tags(len(order), normal), version=csa_version))
    return _encoded(ds, transfer_syntax_uid, edit)


def united_imaging_mosaic(
    series: SyntheticSeries,
    *,
    layout: tuple[int, int] | None = None,
    repetition: int = 1,
    transfer_syntax_uid: str | None = None,
    edit: Edit | None = None,
) -> EncodedInstance:
    """One mosaic (VFRAME) of all slices, in ``layout`` tiles down and across, without a position of its own."""
    order = list(range(len(series)))
    across = int(np.ceil(np.sqrt(len(order))))
    ds = _picture(series, order, layout or (int(np.ceil(len(order) / across)), across), repetition)
    ds.Manufacturer = "UIH"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "VFRAME"]
    del ds.ImagePositionPatient
    block = ds.private_block(0x0065, "Image Private Header", create=True)
    block.add_new(0x50, "DS", str(len(order)))
    block.add_new(0x51, "SQ", DicomSequence([_tile_item(series, index) for index in order]))
    return _encoded(ds, transfer_syntax_uid, edit)


def _tile_item(series: SyntheticSeries, index: int) -> Dataset:
    item = Dataset()
    item.AcquisitionTime = f"1011{index:02d}"
    item.ImagePositionPatient = series[index].dataset().ImagePositionPatient
    return item


def _picture(series: SyntheticSeries, order: Sequence[int], layout: tuple[int, int], repetition: int) -> Dataset:
    """Header of the first slice, with the picture of all."""
    ds = series[0].dataset()
    picture = tiled([series.voxels[index] for index in order], layout)
    _, rows, columns = series.voxels.shape
    ds.Rows, ds.Columns = picture.shape
    ds.PixelData = picture.astype("<u2").tobytes()
    ds.AcquisitionMatrix = [rows, 0, 0, columns]
    ds.SOPInstanceUID = uid_of(series.series_instance_uid, "mosaic", repetition)
    ds.InstanceNumber = ds.AcquisitionNumber = repetition
    return ds


def tiled(planes: Sequence[NDArray[np.float32]], layout: tuple[int, int]) -> NDArray[np.float32]:
    """Planes row by row in one picture, zeros where there are no more."""
    rows, columns = planes[0].shape
    picture = np.zeros((layout[0] * rows, layout[1] * columns), np.float32)
    for number, plane in enumerate(planes):
        down, across = number // layout[1], number % layout[1]
        picture[down * rows : (down + 1) * rows, across * columns : (across + 1) * columns] = plane
    return picture


def _encoded(ds: Dataset, transfer_syntax_uid: str | None, edit: Edit | None) -> EncodedInstance:
    if edit is not None:
        edit(ds)
    if transfer_syntax_uid is not None:
        compress(ds, transfer_syntax_uid)
    return encode(ds)
