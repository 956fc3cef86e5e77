"""Instances and frames in another transfer syntax than the stored one, read back by pydicom and dcmtk."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.dicomweb.encoding import ENCODERS
from tests.arrivals import receive
from tests.dicomweb.serving import serve
from tests.dicomweb.test_retrieve_over_http import instance_path, parts
from tests.factories import EncodedInstance, ct_series, enhanced_mr, mr_series
from tests.new_store import NewStore
from tests.peer_servers import run_tool

TYPES = {
    JPEG2000Lossless: "image/jp2",
    HTJ2KLossless: "image/jphc",
    JPEGLSLossless: "image/jls",
    RLELossless: "image/dicom-rle",
    JPEGLossless: "image/jpeg",
}


def sample(name: str) -> EncodedInstance:
    return EncodedInstance(name, Path(str(get_testdata_file(f"{name}.dcm"))).read_bytes())


def with_bits_beyond(ds: Dataset, _: int) -> None:
    """Bits Stored is 12, and an overlay uses a bit above them."""
    values = np.arange(len(ds.PixelData) // 2, dtype="<u2") % 4096
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 0
    ds.PixelData = (values | 0x8000 * (values % 3 == 0)).astype("<u2").tobytes()


IMAGES = {
    "signed CT": ct_series(1, rows=20, columns=15, seed="transcoded")[0],
    "bits in use": ct_series(1, rows=20, columns=15, seed="beyond", edit=with_bits_beyond)[0],
    "compressed": ct_series(1, transfer_syntax_uid=JPEG2000Lossless, seed="transcoded-j2k")[0],
    "5 frames": enhanced_mr(mr_series(5, rows=16, columns=12)),
    "colour": sample("examples_rgb_color"),
    "colour by plane": sample("SC_rgb_rle_2frame"),
    "deflated": sample("image_dfl"),
    "palette": sample("examples_palette"),
}


@pytest.fixture(scope="module")
def http(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with new_store(tmp_path_factory.mktemp("transcoding")) as store:
        receive(store, list(IMAGES.values()))
        with serve(store) as url, httpx.Client(base_url=f"{url}/dicom-web", trust_env=False, timeout=60) as client:
            yield client


def retrieved(http: httpx.Client, name: str, syntax: UID) -> httpx.Response:
    return http.get(instance_path(IMAGES[name]), headers={"Accept": f"application/dicom; transfer-syntax={syntax}"})


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("syntax", ENCODERS, ids=lambda syntax: syntax.name)
def test_an_instance_keeps_its_pixels_in_another_transfer_syntax(http: httpx.Client, name: str, syntax: UID) -> None:
    answer = retrieved(http, name, syntax)
    if (syntax == JPEGLossless and name.startswith("colour")) or (syntax != RLELossless and name == "bits in use"):
        assert answer.status_code == 406
        return
    assert answer.status_code == 200, answer.text
    ds, source = dcmread(io.BytesIO(answer.content)), IMAGES[name].dataset()
    assert ds.file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(ds.pixel_array, source.pixel_array)
    for keyword in ("PixelData", "BitsStored", "HighBit", "PhotometricInterpretation", "PlanarConfiguration"):
        for one in (ds, source):
            one.pop(keyword, None)
    assert ds == source


@pytest.mark.parametrize("syntax", [JPEGLSLossless, RLELossless, JPEGLossless], ids=lambda syntax: syntax.name)
def test_dcmtk_reads_the_same_pixels(http: httpx.Client, tmp_path: Path, syntax: UID) -> None:
    tool = {JPEGLSLossless: "dcmdjpls", RLELossless: "dcmdrle", JPEGLossless: "dcmdjpeg"}[syntax]
    source, target = tmp_path / "in.dcm", tmp_path / "out.dcm"
    source.write_bytes(retrieved(http, "signed CT", syntax).content)
    done = run_tool(tool, source, target)
    assert done.returncode == 0, done.stdout
    np.testing.assert_array_equal(dcmread(target).pixel_array, IMAGES["signed CT"].dataset().pixel_array)


@pytest.mark.parametrize("syntax", TYPES, ids=lambda syntax: syntax.name)
def test_frames_are_encoded_for_who_asks(http: httpx.Client, syntax: UID) -> None:
    image = IMAGES["5 frames"]
    accept = f'multipart/related; type="{TYPES[syntax]}"; transfer-syntax={syntax}'
    found = parts(http.get(f"{instance_path(image)}/frames/4,2", headers={"Accept": accept}))
    assert {content_type for content_type, _ in found} == {f"{TYPES[syntax]}; transfer-syntax={syntax}"}
    ds = image.dataset()
    expected = ds.pixel_array[[3, 1]]
    ds.PixelData = encapsulate([frame for _, frame in found])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.NumberOfFrames = 2
    ds.file_meta.TransferSyntaxUID = syntax
    np.testing.assert_array_equal(ds.pixel_array, expected)


def test_a_media_type_without_a_transfer_syntax_means_its_default(http: httpx.Client) -> None:
    url = f"{instance_path(IMAGES['signed CT'])}/frames/1"
    for media_type, syntax in (("image/jp2", JPEG2000Lossless), ("image/jls", JPEGLSLossless)):
        ((content_type, _),) = parts(http.get(url, headers={"Accept": f'multipart/related; type="{media_type}"'}))
        assert content_type == f"{media_type}; transfer-syntax={syntax}"


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLosslessSV1, UID("1.2.3")])
def test_what_nothing_here_encodes_is_not_acceptable(http: httpx.Client, syntax: UID) -> None:
    answer = retrieved(http, "signed CT", syntax)
    assert (answer.status_code, answer.json()["code"]) == (406, "not-acceptable")
    accept = {"Accept": f'multipart/related; type="image/jpeg"; transfer-syntax={syntax}'}
    assert http.get(f"{instance_path(IMAGES['signed CT'])}/frames/1", headers=accept).status_code == 406


def test_stored_bytes_are_preferred_to_encoding(http: httpx.Client) -> None:
    accept = ", ".join(
        f'multipart/related; type="application/dicom"; transfer-syntax={syntax}'
        for syntax in (JPEGLSLossless, ExplicitVRLittleEndian)
    )
    ((content_type, _),) = parts(http.get(instance_path(IMAGES["signed CT"]), headers={"Accept": accept}))
    assert content_type.endswith(ExplicitVRLittleEndian)
