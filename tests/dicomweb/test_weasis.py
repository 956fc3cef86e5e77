"""Requests as Weasis sends them, recorded from its source: each is answered, and rightly.

Weasis at commit 174ba61 (August 2026): `RsQueryResult`, `RsQuery`, `ManifestCompletion`, `SeriesDownloadManager`,
`ThumbnailManager` and `LoadSeries` of weasis-dicom-explorer and weasis-dicom-qr, `StowRS` of weasis-dicom-send. It says
which attributes it wants by tags, separated by commas; most of its queries have no Accept header.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

import httpx
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.arrivals import receive
from tests.dicomweb.serving import serve
from tests.factories import SyntheticSeries, ct_series
from tests.new_store import NewStore

OF_STUDY = (
    "00080020,00080030,00080050,00080061,00080090,00081030,00100010,00100020,00100021,00100030,00100040,0020000D,"
    "00200010"
)
OF_SERIES = "0008103E,00080060,0020000E,00200011,00081190"
OF_INSTANCE = "00080018,00200013,00081190"
STORED = 'multipart/related;type="application/dicom";transfer-syntax=*'
THUMBNAIL_PIXELS = 256
N_SLICES = 5
JSON = "application/dicom+json"


def edit(ds: Dataset, _: int) -> None:
    ds.PatientName, ds.PatientID, ds.IssuerOfPatientID = "Müller^Eva", "W 1", "HOSPITAL"
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.AccessionNumber, ds.StudyID, ds.StudyDate, ds.StudyTime = "ACC/7", "S1", "20260105", "101500"


@pytest.fixture(scope="module")
def series() -> SyntheticSeries:
    return ct_series(N_SLICES, seed="weasis", edit=edit)


@pytest.fixture(scope="module")
def http(
    new_store: NewStore, tmp_path_factory: pytest.TempPathFactory, series: SyntheticSeries
) -> Iterator[httpx.Client]:
    """A client without headers of its own, on the root of DICOMweb."""
    with new_store(tmp_path_factory.mktemp("weasis")) as store:
        receive(store, series)
        receive(store, ct_series(2, seed="another"))
        with serve(store, stow=True) as url, httpx.Client(trust_env=False, timeout=60) as client:
            del client.headers["accept"]
            client.base_url = f"{url}/dicom-web"
            yield client


def paths(series: SyntheticSeries) -> dict[str, str]:
    ds = series[0].dataset()
    study, of_series = str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID)
    return {"study": study, "series": of_series, "instance": str(ds.SOPInstanceUID)}


SEARCHES = [
    # Dialog of queries: tags, values percent-encoded as a form, then what is wanted.
    ("/studies?00100020=W+1&00100021=HOSPITAL&includefield={of_study}", 1),
    ("/studies?00100020=W+1&00100021=OTHER&includefield={of_study}", 0),
    ("/studies?00100010=M%C3%BCller*&includefield={of_study}&limit=10&offset=0", 1),
    ("/studies?00080020=20260101-20260131&00080061=CT&includefield={of_study}&limit=10&offset=0", 1),
    ("/studies?00080050=ACC/7&includefield={of_study}", 1),
    ("/studies?0020000D={study}&includefield={of_study}&includedefaults=false", 1),
    ("/series?0020000E={series}&includefield={of_study},0008103E,00080060,00081190,00200011", 1),
    ("/instances?00080018={instance}&includefield={of_study},0008103E,00080060,0020000E,00200011,00200013,00081190", 1),
    # A study, a series, and the pages of a series that is loaded as a whole.
    ("/studies/{study}/series?includefield={of_series}", 1),
    ("/studies/{study}/series?0020000E={series}&includefield=00201209", 1),
    ("/studies/{study}/series/{series}/instances?includefield={of_instance}", N_SLICES),
    (
        "/studies/{study}/series/{series}/instances?includefield=00080016,00080018,00200013&offset=0&limit=99",
        N_SLICES,
    ),
    ("/studies/{study}/series/{series}/instances?includefield=00080016,00080018,00200013&offset=1000&limit=1000", 0),
    ("/studies/{study}/series/{series}/instances?includefield=00080018&limit=1&offset=2", 1),
]


@pytest.mark.parametrize(("path", "n_expected"), SEARCHES)
@pytest.mark.parametrize(("accept", "is_repeated"), [(None, False), (JSON, True)])  # dicom.qido.query.multi.params
def test_a_search_finds_what_weasis_asks_for(
    http: httpx.Client, series: SyntheticSeries, path: str, n_expected: int, accept: str | None, *, is_repeated: bool
) -> None:
    fields = {"of_study": OF_STUDY, "of_series": OF_SERIES, "of_instance": OF_INSTANCE}
    asked = path.format(**fields, **paths(series))
    if is_repeated:
        asked = re.sub(r"(?<=[0-9A-F]{8}),(?=[0-9A-F]{8})", "&includefield=", asked)
    answer = http.get(asked, headers={"Accept": accept} if accept else {})
    if not n_expected:
        assert answer.status_code == 204
        return
    assert answer.status_code == 200
    assert answer.headers["content-type"] == JSON
    assert len(answer.json()) == n_expected
    wanted = {tag for given in re.findall("includefield=([^&]+)", asked) for tag in given.split(",")}
    missing = {tag for tag in wanted for one in answer.json() if tag not in one}
    of_others = set() if path.startswith("/studies?") else {"00080061"}  # an attribute of studies alone
    assert missing <= {"00080090", "00081030"} | of_others  # the instances have no such values


def test_instances_and_whole_series_come_as_they_are_stored(http: httpx.Client, series: SyntheticSeries) -> None:
    uids = paths(series)
    found = http.get("/studies/{study}/series/{series}/instances?includefield={0}".format(OF_INSTANCE, **uids)).json()
    headers = {"Accept": STORED, "Accept-Encoding": "gzip"}
    for url in (one["00081190"]["Value"][0] for one in found):
        assert len(parts(http.get(url, headers=headers))) == 1
    whole = parts(http.get("/studies/{study}/series/{series}".format(**uids), headers=headers))
    assert whole == series.datasets()


def parts(answer: httpx.Response) -> list[Dataset]:
    """The instances of a multipart answer."""
    assert answer.status_code == 200
    boundary = answer.headers["content-type"].partition("boundary=")[2].strip('"').encode()
    return [
        dcmread(io.BytesIO(part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")))
        for part in answer.content.split(b"--" + boundary)[1:-1]
    ]


@pytest.mark.parametrize("path", ["", "/instances/{instance}"])
@pytest.mark.parametrize("kind", ["thumbnail", "rendered"])
def test_a_series_and_an_instance_have_a_picture(
    http: httpx.Client, series: SyntheticSeries, path: str, kind: str
) -> None:
    if kind == "rendered" and not path:
        return  # it asks for rendered instances only
    path = f"/studies/{{study}}/series/{{series}}{path}/{kind}?viewport={THUMBNAIL_PIXELS}%2C{THUMBNAIL_PIXELS}"
    answer = http.get(path.format(**paths(series)), headers={"Accept": "image/jpeg"})
    assert answer.status_code == 200
    assert max(Image.open(io.BytesIO(answer.content)).size) <= THUMBNAIL_PIXELS


def test_a_manifest_loads_by_wado_uri(http: httpx.Client, series: SyntheticSeries) -> None:
    uids = paths(series)
    base = str(http.base_url).replace("/dicom-web/", "/wado")
    where = "studyUID={study}&seriesUID={series}&objectUID={instance}".format(**uids)
    answer = http.get(f"{base}?requestType=WADO&{where}&contentType=application%2Fdicom")
    assert dcmread(io.BytesIO(answer.content)) == series[0].dataset()
    answer = http.get(f"{base}?requestType=WADO&{where}&contentType=image/jpeg&imageQuality=70&rows=256&columns=256")
    assert Image.open(io.BytesIO(answer.content)).format == "JPEG"


def test_what_is_sent_is_answered_as_xml(http: httpx.Client) -> None:
    sent = ct_series(2, seed="sent")
    body = b"".join(b"--mimeTypeBoundary\r\nContent-Type: application/dicom\r\n\r\n%s\r\n" % one.part10 for one in sent)
    headers = {
        "Accept": "application/dicom+xml",
        "Content-Type": 'multipart/related;type="application/dicom";boundary=mimeTypeBoundary',
    }
    answer = http.post("/studies", headers=headers, content=body + b"--mimeTypeBoundary--\r\n")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom+xml")
    names = {"n": "http://dicom.nema.org/PS3.19/models/NativeDICOM"}
    stored = ET.fromstring(answer.content).findall("n:DicomAttribute[@keyword='ReferencedSOPSequence']/n:Item", names)
    uids = [
        item.findtext("n:DicomAttribute[@keyword='ReferencedSOPInstanceUID']/n:Value", "", names) for item in stored
    ]
    assert uids == [str(ds.SOPInstanceUID) for ds in sent.datasets()]
