"""The CSA header: both versions, against nibabel's reader, and damaged ones."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread

from inference.series.csa import CsaError, read_csa
from tests.csa_writer import mosaic_tags, write_csa

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # nibabel calls its DICOM readers experimental
    from nibabel.nicom import csareader

NORMAL = (0.0, 0.17880235, 0.98388501)
TAGS = mosaic_tags(36, NORMAL)


@pytest.mark.parametrize("version", [1, 2])
def test_values_stand_under_their_names(version: int):
    assert read_csa(write_csa(TAGS, version=version)) == {
        "EchoLinePosition": ("32",),
        "NumberOfImagesInMosaic": ("36",),
        "SliceNormalVector": ("0.00000000", "0.17880235", "0.98388501"),
        "ProtocolSliceNumber": ("0",),
    }


def test_nibabel_reads_the_same_from_what_the_tests_write():
    """Of version 2; its reader of version 1 fails where the first tag has an item."""
    tags = csareader.read(write_csa(TAGS))["tags"]
    assert csareader.get_n_mosaic({"tags": tags}) == 36
    assert csareader.get_vector({"tags": tags}, "SliceNormalVector", 3) == pytest.approx(NORMAL)


@pytest.mark.data
@pytest.mark.parametrize("group", ["mr_siemens_mosaic_ax35", "mr_siemens_mosaic_signed12", "mr_siemens_mosaic_mb_j70"])
def test_a_scanners_header_has_the_values_that_nibabel_reads(real_series: Callable[[str], Path], group: str):
    for path in real_series(group).iterdir():
        data = dcmread(path, stop_before_pixels=True)[0x0029, 0x1010].value
        expected = csareader.read(data)["tags"]
        found = read_csa(data)
        assert found.keys() == expected.keys()
        for name, tag in expected.items():
            assert len(found[name]) == len([value for value in tag["items"] if value != ""]), name
        assert [float(v) for v in found["SliceNormalVector"]] == list(expected["SliceNormalVector"]["items"])
        assert int(found["NumberOfImagesInMosaic"][0]) == csareader.get_n_mosaic({"tags": expected})


@pytest.mark.parametrize("version", [1, 2])
def test_a_header_that_breaks_off_is_damaged_wherever_it_ends(version: int):
    whole = write_csa(TAGS, version=version)
    last_value = 6 * 16 + 4  # of the last tag: its items, and its only value
    for n_bytes in range(len(whole) - last_value):
        with pytest.raises(CsaError):
            read_csa(whole[:n_bytes])


def test_counts_and_lengths_that_cannot_be_are_damage():
    whole = write_csa(TAGS)
    first_tag, first_item = 16, 16 + 84
    for at, value, words in (
        (8, 0, "0 tags"),
        (8, 1025, "1025 tags"),
        (8, 0xFFFFFFFF, "4294967295 tags"),
        (first_tag + 76, -1, "tag 1 has -1 items"),
        (first_tag + 76, 2**31 - 1, "ends within|bytes"),
        (first_item + 4, -4, "an item of -4 bytes"),
        (first_item + 4, 2**31 - 1, "an item of 2147483647 bytes"),
    ):
        damaged = bytearray(whole)
        struct.pack_into("<I" if value > 0 else "<i", damaged, at, value)
        with pytest.raises(CsaError, match=words):
            read_csa(bytes(damaged))
