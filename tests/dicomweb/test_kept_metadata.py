"""Metadata is computed once and kept: the same bytes before and after, and never those of another object."""

from __future__ import annotations

import gzip
import itertools
import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from dicom_node.dicomweb import kept_metadata
from dicom_node.dicomweb.dicom_json import Memo, encode_dataset, with_bulk_data_url
from dicom_node.store import Store
from tests.arrivals import receive
from tests.dicomweb.serving import serve
from tests.factories import SyntheticSeries, ct_series
from tests.new_store import NewStore

N_SLICES = 4
TEXT = 'a "BulkDataURI":"/7FE00010" and \\"BulkDataURI\\":\\" within a value'


def edit(ds: Dataset, index: int) -> None:
    """Headers in which equal bytes mean different things, from one slice to the next."""
    ds.SeriesDescription = TEXT[:64]
    ds.ImageComments = TEXT
    ds.PixelRepresentation = index % 2
    ds.SmallestImagePixelValue = 0xFFF0 if index % 2 == 0 else -16
    ds["SmallestImagePixelValue"].VR = "US" if index % 2 == 0 else "SS"
    creator = ("SIEMENS MED", "GEMS_IDEN_01")[index % 2]
    block = ds.private_block(0x0009, creator, create=True)
    block.add_new(0x01, "LO", "GE_GENESIS_FF ")
    item = Dataset()
    item.EncapsulatedDocument = b"\1" * 2048
    item.SmallestImagePixelValue = ds.SmallestImagePixelValue
    item["SmallestImagePixelValue"].VR = ds["SmallestImagePixelValue"].VR
    ds.ReferencedImageSequence = [item]
    ds.EncapsulatedDocument = bytes(2048)


@pytest.fixture
def series() -> SyntheticSeries:
    return ct_series(N_SLICES, transfer_syntax_uid=ImplicitVRLittleEndian, edit=edit)


@pytest.fixture
def store(new_store: NewStore, tmp_path: Path, series: SyntheticSeries) -> Iterator[Store]:
    with new_store(tmp_path) as store:
        receive(store, series)
        yield store


@pytest.fixture
def url(store: Store, series: SyntheticSeries) -> Iterator[str]:
    """URL of the series' metadata."""
    with serve(store) as url:
        yield f"{url}/dicom-web/studies/{series.study_instance_uid}/series/{series.series_instance_uid}/metadata"


@pytest.fixture
def kept(tmp_path: Path) -> Callable[[], list[Path]]:
    """Files that the node has kept, in a fixed order."""
    return lambda: sorted(path for path in tmp_path.glob("derived/*/*") if path.is_file())


def get(url: str, **headers: str) -> httpx.Response:
    answer = httpx.get(url, headers=headers, trust_env=False, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer


def by_pydicom(ds: Dataset, url: str) -> dict[str, Any]:
    """What pydicom makes of a dataset; URIs of bulk data within sequences are those of this server."""

    def bulk_data_uri(element: Any) -> str:
        is_nested = element.value == b"\1" * 2048
        return f"{url}/bulkdata/" + ("00081140/1/00420011" if is_nested else f"{int(element.tag):08X}")

    members = ds.to_json_dict(1024, bulk_data_uri)
    members["00080005"]["Value"] = ["ISO_IR 192"]
    return dict(sorted(members.items()))


def no_parsing(*_: object) -> NoReturn:
    raise AssertionError("an object was parsed again")


def test_it_is_what_pydicom_makes_of_each_instance(url: str, series: SyntheticSeries) -> None:
    found = get(url).json()
    instances_url = url.removesuffix("/metadata") + "/instances"
    for members, ds in zip(found, series.datasets(), strict=True):
        assert members == by_pydicom(ds, f"{instances_url}/{ds.SOPInstanceUID}")
    assert [members["00280106"]["vr"] for members in found] == ["US", "SS", "US", "SS"]
    assert len({members["00091001"]["vr"] for members in found}) == 2


def test_it_is_computed_once_and_comes_back_byte_for_byte(
    url: str, kept: Callable[[], list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = get(url).content
    assert len(kept()) == N_SLICES
    monkeypatch.setattr(kept_metadata, "read_without_pixels", no_parsing)
    assert get(url).content == first


def test_references_to_bulk_data_begin_with_the_address_that_each_client_used(url: str) -> None:
    (first, *_) = get(url).json()
    (second, *_) = get(url, Host="192.0.2.7:8443").json()
    path = url.split("/dicom-web", 1)[1].removesuffix("/metadata") + f"/instances/{first['00080018']['Value'][0]}"
    assert first["7FE00010"]["BulkDataURI"].endswith(f"{path}/bulkdata/7FE00010")
    assert second["7FE00010"]["BulkDataURI"] == f"http://192.0.2.7:8443/dicom-web{path}/bulkdata/7FE00010"
    assert second["00204000"]["Value"] == [TEXT]
    nested = second["00081140"]["Value"][0]["00420011"]["BulkDataURI"]
    assert nested.endswith(f"{path}/bulkdata/00081140/1/00420011")
    assert (
        httpx.get(nested.replace("http://192.0.2.7:8443", url.split("/dicom-web")[0]), timeout=60).content
        == b"\1" * 2048
    )


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "older program"])
def test_what_is_kept_and_not_sound_is_computed_again(url: str, kept: Callable[[], list[Path]], damage: str) -> None:
    first = get(url).content
    for path in kept():
        before = path.read_bytes()
        form, _, compressed = before.partition(b"\n")
        path.write_bytes(
            {
                "cut": before[:-9],
                "changed": before[:-9] + bytes([before[-9] ^ 1]) + before[-8:],
                "empty": b"",
                "older program": form.replace(b"metadata ", b"metadata 0.") + b"\n" + compressed,
            }[damage]
        )
        assert get(url).content == first
        assert path.read_bytes() == before


def test_it_is_computed_again_from_an_object_that_was_restored(
    store: Store, url: str, kept: Callable[[], list[Path]], series: SyntheticSeries
) -> None:
    path = store.objects.path(
        store.search.find_instances(sop_instance_uid=series[0].dataset().SOPInstanceUID)[0].digest
    )
    sound = path.read_bytes()
    path.write_bytes(sound.replace(b"Synthetic", b"Synthetix"))
    assert get(url).json()[0]["00080070"]["Value"] == ["Synthetix"]
    backup = path.with_suffix(".backup")
    backup.write_bytes(sound)
    shutil.copystat(kept()[0], backup)  # a backup has kept the times
    backup.replace(path)
    assert get(url).json()[0]["00080070"]["Value"] == ["Synthetic"]


def test_it_goes_with_its_object(
    store: Store, url: str, kept: Callable[[], list[Path]], series: SyntheticSeries
) -> None:
    get(url)
    (row,) = store.search.find_instances(sop_instance_uid=series[1].dataset().SOPInstanceUID)
    store.objects.remove(row.digest)
    assert len(kept()) == N_SLICES - 1
    answer = httpx.get(url, trust_env=False, timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (500, "object-missing")


def test_a_private_attribute_that_a_search_asks_for_comes_with_its_creator(url: str) -> None:
    found = get(url.replace("/metadata", "/instances?includefield=00091001")).json()
    assert [one["00090010"]["Value"][0] for one in found] == ["SIEMENS MED", "GEMS_IDEN_01"] * 2
    assert all("00091001" in one for one in found)


def test_a_disk_that_takes_no_more_does_not_keep_anyone_from_it(
    tmp_path: Path, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "derived").write_text("a file where the folder belongs")
    assert get(url).content == get(url).content
    assert sum("not kept" in record.getMessage() for record in caplog.records) == 1


def test_it_is_compressed_for_clients_that_take_that(url: str) -> None:
    plain = get(url, **{"Accept-Encoding": "identity"})
    with httpx.stream("GET", url, headers={"Accept-Encoding": "gzip"}, trust_env=False, timeout=60) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == plain.content
    assert len(raw) < len(plain.content) / 5


@pytest.mark.data
@pytest.mark.parametrize("group", ["mr_siemens_16echo", "mr_philips_mixed_orient", "ct_16_transfer_syntaxes"])
def test_real_series_are_encoded_as_their_instances_alone(real_series, group: str) -> None:
    def datasets() -> Iterator[Dataset]:
        for path in sorted(path for path in real_series(group).rglob("*") if path.is_file()):
            with warnings.catch_warnings(action="ignore"):
                yield dcmread(path, stop_before_pixels=True)

    memo = Memo()
    with warnings.catch_warnings(action="ignore"):
        n_compared = 0
        for ds, same in zip(datasets(), datasets(), strict=True):
            assert encode_dataset(ds, None, memo) == encode_dataset(same, None, Memo())
            n_compared += 1
    assert n_compared >= 4


def test_the_memo_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom_node.dicomweb.dicom_json.MEMO_BYTES", 10_000)
    memo = Memo()
    for number in itertools.islice(itertools.count(), 1000):
        assert memo.get((number,)) is None
        assert memo.add((number,), b"%d" % number) == memo.get((number,)) == b"%d" % number
    assert len(memo._members) <= 50


def test_a_url_is_a_json_string() -> None:
    encoded = with_bulk_data_url(b'{"7FE00010":{"vr":"OW","BulkDataURI":"/7FE00010"}}', 'http://a"b\\c')
    assert json.loads(encoded)["7FE00010"]["BulkDataURI"] == 'http://a"b\\c/7FE00010'
