"""Rendered images and thumbnails, compared with what dcmtk draws and with calculations by hand."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from dicom_node.store import Store
from tests.arrivals import receive
from tests.dicomweb.serving import serve
from tests.factories import EncodedInstance, ct_series, encode, enhanced_mr, mr_series
from tests.new_store import NewStore
from tests.peer_servers import run_tool

PNG = {"Accept": "image/png"}


class Rendering:
    """A server, and instances that tests put into its store."""

    def __init__(self, store: Store, http: httpx.Client) -> None:
        self.store = store
        self.http = http
        self._paths: dict[str, str] = {}

    def path(self, instance: EncodedInstance) -> str:
        """Path of an instance, which is stored at the first call."""
        ds = instance.dataset()
        uid = str(ds.SOPInstanceUID)
        if uid not in self._paths:
            receive(self.store, [instance])
            self._paths[uid] = f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{uid}"
        return self._paths[uid]

    def get(self, instance: EncodedInstance, suffix: str = "/rendered", **query: str) -> httpx.Response:
        return self.http.get(self.path(instance) + suffix, params=query, headers=PNG)

    def pixels(self, instance: EncodedInstance, suffix: str = "/rendered", **query: str) -> NDArray[np.int64]:
        return decoded(self.get(instance, suffix, **query))


def decoded(answer: httpx.Response) -> NDArray[np.int64]:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content))).astype(np.int64)


@pytest.fixture(scope="module")
def rendering(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rendering]:
    with (
        new_store(tmp_path_factory.mktemp("rendered")) as store,
        serve(store) as url,
        httpx.Client(base_url=f"{url}/dicom-web", trust_env=False, timeout=60) as http,
    ):
        yield Rendering(store, http)


def sample(name: str) -> EncodedInstance:
    path = get_testdata_file(f"{name}.dcm")
    assert path is not None
    return EncodedInstance(name, Path(str(path)).read_bytes())


def dcmtk(instance: EncodedInstance, folder: Path, *options: str) -> NDArray[np.int64]:
    source, target = folder / "in.dcm", folder / "out.png"
    source.write_bytes(instance.part10)
    done = run_tool("dcmj2pnm", *options, "+on", source, target)
    assert done.returncode == 0, done.stdout
    return np.asarray(Image.open(target)).astype(np.int64)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("CT_small", ["+Wm"]),
        ("MR_small", ["+Wi", "1"]),
        ("liver_1frame", ["+Wm"]),
        ("image_dfl", ["+Wm"]),
        ("JPEG-lossy", ["+Wm"]),
        ("examples_palette", []),
        ("examples_rgb_color", []),
        ("examples_ybr_color", []),
        ("SC_ybr_full_422_uncompressed", []),
        ("SC_rgb_dcmtk_+eb+cy+np", []),
        ("SC_rgb_rle_16bit", []),
    ],
)
def test_pictures_are_those_of_dcmtk(rendering: Rendering, tmp_path: Path, name: str, options: list[str]) -> None:
    expected = dcmtk(sample(name), tmp_path, *options)
    shown = rendering.pixels(sample(name), "/frames/1/rendered")
    assert shown.shape == expected.shape
    assert np.abs(shown - expected).max() <= 1  # they round in other ways


def grey(edit: object = None) -> EncodedInstance:
    """Values 0 to 255 in a row of 16 x 16 pixels."""
    ds = ct_series(1, rows=16, columns=16, seed=str(edit)).datasets()[0]
    ds.PixelRepresentation, ds.RescaleSlope, ds.RescaleIntercept = 0, 1, -100
    ds.PixelData = np.arange(256, dtype="<u2").tobytes()
    ds.PixelSpacing = [1, 1]
    if callable(edit):
        edit(ds)
    return encode(ds)


def test_a_window_in_the_query_wins_over_that_of_the_image(rendering: Rendering, tmp_path: Path) -> None:
    def windowed(ds: Dataset) -> None:
        ds.WindowCenter, ds.WindowWidth = 0, 50

    image = grey(windowed)
    assert np.abs(rendering.pixels(image) - dcmtk(image, tmp_path, "+Ww", "0", "50")).max() <= 1
    expected = dcmtk(image, tmp_path, "+Ww", "40", "100")
    assert np.abs(rendering.pixels(image, window="40,100,linear") - expected).max() <= 1
    # PS3.3 C.11.2.1.3.1 by hand: value 40 is the middle, 90 is 1 / (1 + exp(-2)) of the range.
    sigmoid = rendering.pixels(image, window="40,100,sigmoid").reshape(-1)
    assert (sigmoid[140], sigmoid[190]) == (128, 225)
    exact = rendering.pixels(image, window="40,100,linear-exact").reshape(-1)
    assert (exact[90], exact[140], exact[190]) == (0, 128, 255)


def test_monochrome1_is_shown_inverted(rendering: Rendering, tmp_path: Path) -> None:
    image = grey(lambda ds: setattr(ds, "PhotometricInterpretation", "MONOCHROME1"))
    shown = rendering.pixels(image)
    assert shown[0, 0] == 255
    assert shown[-1, -1] == 0
    assert np.abs(shown - dcmtk(image, tmp_path, "+Wm")).max() <= 1


def test_a_voi_lut_of_the_image_is_used(rendering: Rendering, tmp_path: Path) -> None:
    def with_lut(ds: Dataset) -> None:
        item = Dataset()
        item.add_new("LUTDescriptor", "SS", [256, -100, 8])
        item.add_new("LUTData", "US", [min(255, 3 * value) for value in range(256)])
        ds.VOILUTSequence = [item]
        ds.PixelRepresentation = 1

    image = grey(with_lut)
    np.testing.assert_array_equal(rendering.pixels(image).reshape(-1), np.minimum(255, 3 * np.arange(256)))


def test_frames_of_an_enhanced_image_have_their_own_rescaling(rendering: Rendering) -> None:
    image = enhanced_mr(mr_series(5, rows=16, columns=12, spacing_mm=(3.0, 1.0, 1.0)))
    stored = image.dataset().pixel_array[1].astype(np.float64)
    values = stored * 2 - 1  # slope and intercept of the second frame
    center = round(float(values.mean()))
    expected = np.clip((values - center) / 300 * 255 + 127.5, 0, 255)
    shown = rendering.pixels(image, "/frames/2/rendered", window=f"{center},300,linear-exact")
    assert np.abs(shown - expected).max() <= 0.51
    np.testing.assert_array_equal(rendering.pixels(image), rendering.pixels(image, "/frames/3/rendered"))
    assert rendering.get(image, "/frames/6/rendered").status_code == 404


def test_a_viewport_cuts_out_scales_and_mirrors(rendering: Rendering) -> None:
    image = grey()
    assert rendering.pixels(image, viewport="64,32").shape == (32, 32)
    whole = rendering.pixels(image)
    region = rendering.pixels(image, viewport="8,4,4,8,8,4")
    np.testing.assert_array_equal(region, whole[8:12, 4:12])
    np.testing.assert_array_equal(rendering.pixels(image, viewport="8,4,4,8,-8,-4"), region[::-1, ::-1])
    np.testing.assert_array_equal(rendering.pixels(image, viewport="16,16,,,,"), whole)
    tall = grey(lambda ds: setattr(ds, "PixelSpacing", [3, 1]))
    assert rendering.pixels(tall).shape == (48, 16)


def _with_spacing(spacing_mm: list[float], ds: Dataset) -> None:
    ds.PixelSpacing = spacing_mm


@pytest.mark.parametrize(
    ("spacing_mm", "shape"),
    [
        ([1, 50], (16, 800)),
        ([1, 1000], (16, 1600)),  # a ratio of 100 at most
        ([50, 1], (800, 16)),
    ],
)
def test_pixels_far_from_square_lose_no_row_or_column(
    rendering: Rendering, spacing_mm: list[float], shape: tuple[int, int]
) -> None:
    image = grey(partial(_with_spacing, spacing_mm))
    assert rendering.pixels(image).shape == shape


def test_a_picture_is_never_larger_than_a_viewport_may_be(rendering: Rendering) -> None:
    image = ct_series(1, rows=16, columns=164, edit=lambda ds, _: setattr(ds, "PixelSpacing", [1, 100]), seed="wide")
    assert rendering.pixels(next(iter(image))).shape == (8, 8192)  # 16400 columns would be needed


@pytest.mark.parametrize("query", [{}, {"viewport": "4000,4000"}])
def test_the_memory_of_a_picture_is_that_of_its_size(
    query: dict[str, str], new_store: NewStore, tmp_path: Path
) -> None:
    series = ct_series(2, rows=256, columns=256, edit=lambda ds, n: setattr(ds, "PixelSpacing", [1, (1, 16)[n]]))
    square, flat = series
    with (
        new_store(tmp_path) as store,
        serve(store, decoding_bytes=8 * 2**20) as url,
        httpx.Client(base_url=f"{url}/dicom-web", trust_env=False, timeout=60) as http,
    ):
        here = Rendering(store, http)
        assert decoded(here.get(square)).shape == (256, 256)
        assert decoded(here.get(square, viewport="256,8192")).shape == (256, 256)  # not 256 x 8192
        answer = here.get(flat, **query)  # 4096 x 256 and 4000 x 250 pixels take 12 MB
        assert (answer.status_code, answer.json()["code"]) == (406, "picture-too-large")
        assert "web.decoding_bytes" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("window", "40"), ("window", "40,x"), ("window", "40,0"), ("window", "40,400,cubic"), ("window", "1,nan"),
        ("viewport", "0,10"), ("viewport", "99999,1"), ("viewport", "1,2,3"), ("viewport", "8,8,500,0,1,1"),
        ("viewport", "8,8,0,0,0,1"), ("quality", "0"), ("quality", "101"), ("quality", "x"), ("quality", "1" * 400),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_named(rendering: Rendering, name: str, value: str) -> None:
    answer = rendering.get(grey(), **{name: value})
    assert answer.status_code == 400
    assert f"parameter {name}" in answer.json()["detail"]


def test_media_types_are_those_that_are_asked_for(rendering: Rendering) -> None:
    path = rendering.path(grey())
    for accept, kind in (("image/jpeg", "JPEG"), ("image/png", "PNG"), ("image/gif", "GIF"), ("image/jp2", "JPEG2000")):
        answer = rendering.http.get(f"{path}/rendered", headers={"Accept": accept})
        assert (answer.headers["content-type"], Image.open(io.BytesIO(answer.content)).format) == (accept, kind)
    assert rendering.http.get(f"{path}/rendered").headers["content-type"] == "image/jpeg"
    assert rendering.http.get(f"{path}/rendered?accept=image/png").headers["content-type"] == "image/png"
    assert rendering.http.get(f"{path}/rendered", headers={"Accept": "video/mp4"}).status_code == 406
    sizes = [len(rendering.http.get(f"{path}/rendered", params={"quality": quality}).content) for quality in (5, 95)]
    assert sizes[0] < sizes[1]


def test_a_series_comes_in_parts_or_as_one_picture(rendering: Rendering) -> None:
    series = ct_series(5, rows=16, columns=12, seed="rendered-series")
    paths = [rendering.path(instance) for instance in series]
    whole = paths[0].partition("/instances/")[0]
    answer = rendering.http.get(f"{whole}/rendered", headers={"Accept": 'multipart/related; type="image/png"'})
    boundary = re.search(r"boundary=(\w+)", answer.headers["content-type"])
    assert boundary
    parts = answer.content.split(b"--" + boundary[1].encode())[1:-1]
    assert len(parts) == 5
    for path, part in zip(paths, parts, strict=True):
        head, _, body = part.partition(b"\r\n\r\n")
        assert f"{path}/frames/1/rendered".encode() in head
        assert body.removesuffix(b"\r\n") == rendering.http.get(f"{path}/rendered", headers=PNG).content
    middle = rendering.http.get(f"{paths[2]}/rendered", headers=PNG).content
    assert rendering.http.get(f"{whole}/rendered", headers=PNG).content == middle


def test_thumbnails_are_small_and_at_every_level(rendering: Rendering) -> None:
    series = ct_series(3, rows=300, columns=200, seed="thumbnail")
    path = [rendering.path(instance) for instance in series][1]
    study, of_series = path.partition("/series/")[0], path.partition("/instances/")[0]
    for resource in (study, of_series, path, f"{path}/frames/1"):
        answer = rendering.http.get(f"{resource}/thumbnail")
        assert answer.headers["content-type"] == "image/jpeg"
        assert Image.open(io.BytesIO(answer.content)).size[1] == 128
    assert decoded(rendering.http.get(f"{path}/thumbnail", params={"viewport": "20,20"}, headers=PNG)).shape[0] == 20
    assert rendering.http.get(f"{study}/thumbnail").content == rendering.http.get(f"{path}/thumbnail").content


def test_what_has_no_pixels_has_no_picture(rendering: Rendering) -> None:
    document = sample("test-SR")
    assert rendering.get(document).status_code == 404
    assert rendering.get(document, "/thumbnail").status_code == 404


def test_a_picture_holds_nothing_of_the_header(rendering: Rendering) -> None:
    image = sample("CT_small")
    name = str(dcmread(image.open()).PatientName).encode()
    for accept in ("image/jpeg", "image/png", "image/jp2", "image/gif"):
        answer = rendering.http.get(f"{rendering.path(image)}/rendered", headers={"Accept": accept})
        assert name not in answer.content
