"""The overlay shows the patient the same way up, whatever the array order is."""

from __future__ import annotations

from io import BytesIO
from itertools import permutations, product

import highdicom as hd
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dicom_node.overlay import ANONYMIZED_RGB, FOREGROUND_RGB, direction_letters, draw_overlay, informative_index

CAPTION = ("no anonymised area found", "second line")
SPACING_MM = (2.5, 1.5, 1.0)  # slice, row, column: all different, so that a swapped axis changes the aspect
SHAPE = (30, 40, 44)
ORDERS = [(order, turned) for order in permutations(range(3)) for turned in product((False, True), repeat=3)]


def head_phantom() -> tuple[hd.Volume, NDArray[np.bool_], NDArray[np.bool_]]:
    """A box of a body in H-to-F, A-to-P, R-to-L order, with one bright corner block: the patient's left, back, top."""
    voxels = np.zeros(SHAPE, dtype=np.float32)
    body = np.zeros(SHAPE, dtype=bool)
    body[5:25, 8:32, 8:36] = True
    voxels[body] = 100.0
    voxels[6:12, 22:31, 26:35] = 400.0
    altered = np.zeros(SHAPE, dtype=bool)
    altered[6:12, 22:31, 26:35] = True
    affine = np.array([[0, 0, 1.0, -20], [0, 1.5, 0, -30], [-2.5, 0, 0, 40], [0, 0, 0, 1]])
    return hd.Volume(voxels, affine, coordinate_system="PATIENT"), body, altered


def reordered(
    volume: hd.Volume, masks: tuple[NDArray[np.bool_], ...], order: tuple[int, ...], turned: tuple[bool, ...]
) -> tuple[hd.Volume, tuple[NDArray[np.bool_], ...]]:
    """The same patient in another array order, by hand: columns of the affine follow the axes."""
    affine = volume.affine.copy()
    affine[:3, :3] = affine[:3, list(order)]
    shape = [volume.spatial_shape[axis] for axis in order]
    for axis, turn in enumerate(turned):
        if turn:
            affine[:3, 3] += affine[:3, axis] * (shape[axis] - 1)
            affine[:3, axis] *= -1
    step = tuple(slice(None, None, -1 if turn else 1) for turn in turned)
    arrays = [array.transpose(order)[step] for array in (volume.array, *masks)]
    return hd.Volume(np.ascontiguousarray(arrays[0]), affine, coordinate_system="PATIENT"), tuple(arrays[1:])


def picture(png: bytes) -> NDArray[np.int64]:
    return np.asarray(Image.open(BytesIO(png))).astype(np.int64)


def centre_of(pixels: NDArray[np.int64], rgb: tuple[int, int, int], panel: int) -> tuple[float, float]:
    """Row and column, as fractions of one panel, of what has a colour."""
    found = np.argwhere((pixels[24:364, 24 + 388 * panel : 364 + 388 * panel] == rgb).all(axis=-1))
    return tuple(found.mean(axis=0) / 340)


def test_the_patient_left_back_and_top_lie_where_radiologists_expect_them() -> None:
    volume, body, altered = head_phantom()

    pixels = picture(draw_overlay(volume, body, altered, modality="MR", caption=CAPTION))

    row, column = centre_of(pixels, ANONYMIZED_RGB, panel=0)  # axial: back is down, the patient's left on the right
    assert row > 0.55
    assert column > 0.55
    row, column = centre_of(pixels, ANONYMIZED_RGB, panel=1)  # coronal: head is up
    assert row < 0.45
    assert column > 0.55
    row, column = centre_of(pixels, ANONYMIZED_RGB, panel=2)  # sagittal: the face looks to the left
    assert row < 0.45
    assert column > 0.55


@pytest.mark.parametrize(("order", "turned"), ORDERS)
def test_every_array_order_gives_the_same_picture(order: tuple[int, ...], turned: tuple[bool, ...]) -> None:
    volume, body, altered = head_phantom()
    expected = picture(draw_overlay(volume, body, altered, modality="MR", caption=CAPTION))
    other, (other_body, other_altered) = reordered(volume, (body, altered), order, turned)

    pixels = picture(draw_overlay(other, other_body, other_altered, modality="MR", caption=CAPTION))

    assert np.array_equal(pixels, expected)


def test_pixels_are_square_in_millimetres() -> None:
    volume, body, _ = head_phantom()  # the body is 20 x 2.5, 24 x 1.5 and 28 x 1.0 mm

    pixels = picture(draw_overlay(volume, body, np.zeros_like(body), modality="MR", caption=()))

    drawn = np.argwhere((pixels[24:364, 412:752] == FOREGROUND_RGB).all(axis=-1))  # coronal panel
    height, width = np.ptp(drawn, axis=0) + 1
    assert height / width == pytest.approx(50.0 / 28.0, rel=0.03)


def test_the_slice_shows_the_altered_area_together_with_the_body() -> None:
    body = np.zeros((20, 4, 4), dtype=bool)
    body[5:15] = True
    altered = np.zeros_like(body)
    altered[2:8, :2] = True
    altered[0:3] = True  # most of it lies where there is no body

    assert 5 <= informative_index(body, altered, 0) < 8


def test_of_slices_that_show_as_much_the_middle_one_is_shown() -> None:
    body = np.zeros((21, 4, 4), dtype=bool)
    body[3:18] = True  # the middle is 10
    altered = np.zeros_like(body)
    altered[:, :2] = True

    assert informative_index(body, altered, 0) == 10


def test_without_altered_area_the_middle_of_the_body_is_shown() -> None:
    body = np.zeros((20, 4, 4), dtype=bool)
    body[9:19] = True

    assert informative_index(body, np.zeros_like(body), 0) == 14
    assert informative_index(np.zeros_like(body), np.zeros_like(body), 0) == 10


def test_a_speck_does_not_choose_the_slices() -> None:
    volume, body, nothing = head_phantom()
    nothing[:] = False
    speck = nothing.copy()
    speck[6, 9, 9:12] = True  # 11 mm³ inside the body, on none of its middle slices

    without, with_speck = (
        picture(draw_overlay(volume, body, mask, modality="MR", caption=CAPTION)) for mask in (nothing, speck)
    )

    assert np.array_equal(with_speck, without)


def test_an_oblique_side_has_two_letters() -> None:
    assert direction_letters(np.array([np.cos(0.5), np.sin(0.5), 0.0])) == "LP"
    assert direction_letters(np.array([-1.0, 0.1, 0.05])) == "R"
    assert direction_letters(np.array([0.1, 0.0, -3.0])) == "F"


def test_a_ct_is_shown_in_the_soft_tissue_window() -> None:
    volume, body, altered = head_phantom()
    voxels = np.full(SHAPE, -1000.0, dtype=np.float32)
    voxels[body] = 40.0  # the middle of -160..240 HU

    pixels = picture(
        draw_overlay(volume.with_array(voxels), body, np.zeros_like(altered), modality="CT", caption=CAPTION)
    )

    assert tuple(pixels[194, 194]) == (128, 128, 128)
    assert tuple(pixels[30, 194]) == (0, 0, 0)


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_a_flat_or_empty_volume_is_drawn(value: float) -> None:
    voxels = np.full((1, 5, 3), value, dtype=np.float32)
    nothing = np.zeros(voxels.shape, dtype=bool)
    volume = hd.Volume(voxels, np.eye(4), coordinate_system="PATIENT")

    assert picture(draw_overlay(volume, nothing, nothing, modality="", caption=CAPTION)).shape[1] == 1164
