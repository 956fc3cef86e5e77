"""Requests of DICOMweb with the answers that PS3.18 asks for, and the small archive that they are about."""

# ruff: noqa: E501 - one request a line

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Final

import httpx
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from tests.factories import EncodedInstance, ct_series, enhanced_mr, mr_series

MULTIPART: Final = 'multipart/related; type="{}"'
DICOM_PARTS: Final = 'multipart/related; type="application/dicom"; transfer-syntax={}'
OCTETS: Final = 'multipart/related; type="application/octet-stream"'
JSON: Final = "application/dicom+json"
BULK_DATA: Final = "/{BulkDataURI}"  # of the pixel data, as the metadata of an archive says


@dataclass(frozen=True, eq=False)  # each is itself
class Case:
    """One request, and what is right: a status, and what the answer holds in a few words."""

    section: str
    name: str
    path: str
    expected: str
    accept: str = JSON
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def run(self, client: httpx.Client) -> str:
        """Return what the answer is, in the words of `expected`."""
        path = self.path
        if BULK_DATA in path:
            instance = path.removesuffix(BULK_DATA)
            path = client.get(f"{instance}/metadata", headers={"Accept": JSON}).json()[0]["7FE00010"]["BulkDataURI"]
        headers = {"Accept": self.accept, **self.headers}
        answer = client.request(self.method, path, headers=headers, content=self.body or None)
        return summary(answer)


def summary(answer: httpx.Response) -> str:
    """Return status, and number and kind of what is in an answer."""
    kind = answer.headers.get("content-type", "")
    media_type = kind.partition(";")[0].strip()
    words = [str(answer.status_code)]
    if answer.status_code >= 300 or not answer.content:
        return words[0]
    if media_type in {JSON, "application/json"} and answer.content[:1] == b"[":
        words.append(f"{len(answer.json())} objects")
    elif media_type == "multipart/related":
        words.append(_parts(answer.content, kind))
    elif media_type == "application/zip":
        words.append(f"{len(zipfile.ZipFile(BytesIO(answer.content)).namelist())} files")
    elif media_type.startswith("image/"):
        words.append(f"{Image.open(BytesIO(answer.content)).format}")
    elif answer.status_code == 206:
        words.append(f"{len(answer.content)} bytes")
    else:
        words.append(media_type)
    return ", ".join(words)


def _parts(content: bytes, kind: str) -> str:
    found = re.search(r'boundary="?([^";]+)', kind)
    parts = content.split(b"--" + (found[1] if found else "").encode())[1:-1]
    head = parts[0].partition(b"\r\n\r\n")[0] if parts else b""
    stated = re.search(rb"(?i)content-type:\s*([^\r\n]+)", head)
    first = stated[1].decode("latin-1") if stated else "nothing"
    media_type, _, parameters = first.partition(";")
    syntax = re.search(r"transfer-syntax=\"?([0-9.]+)", parameters)
    if media_type.strip() == "application/dicom":  # what is in it, whatever the header says
        syntaxes = {str(dcmread(BytesIO(part.partition(b"\r\n\r\n")[2])).file_meta.TransferSyntaxUID) for part in parts}
        return f"{len(parts)} parts {media_type.strip()} {', '.join(sorted(syntaxes))}"
    return f"{len(parts)} parts {media_type.strip()}" + (f" {syntax[1]}" if syntax else "")


def _with_request(ds: Dataset, _: int) -> None:
    item = Dataset()
    item.ScheduledProcedureStepID, item.RequestedProcedureID = "SPS7", "RP9"
    ds.RequestAttributesSequence = [item]


def _named(ds: Dataset, _: int) -> None:
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName, ds.PatientID, ds.StudyDate, ds.AccessionNumber = "Müller^Jörg", "P2", "20211231", "ACC2"


class Instances:
    """What both archives hold: a CT of four slices, an MR of three, a compressed CT, frames, colour, and a report."""

    def __init__(self) -> None:
        self.ct = ct_series(4, rows=16, columns=12, spacing_mm=(3.0, 1.0, 1.0))
        study = self.ct.study_instance_uid
        self.mr = [
            one.edited(lambda ds: setattr(ds, "StudyInstanceUID", study)) for one in mr_series(3, edit=_with_request)
        ]
        self.compressed = ct_series(2, transfer_syntax_uid=JPEG2000Lossless, seed="compressed", edit=_named)
        self.frames = enhanced_mr(mr_series(5, rows=16, columns=12, seed="frames"))
        self.colour, self.report = (_sample(name) for name in ("examples_rgb_color", "test-SR"))

    def __iter__(self) -> Iterator[EncodedInstance]:
        yield from (*self.ct, *self.mr, *self.compressed, self.frames, self.colour, self.report)

    def path(self, instance: EncodedInstance, level: str = "instance") -> str:
        """Path of an instance, its series or its study."""
        ds = instance.dataset()
        study = f"/studies/{ds.StudyInstanceUID}"
        series = f"{study}/series/{ds.SeriesInstanceUID}"
        return {"study": study, "series": series, "instance": f"{series}/instances/{ds.SOPInstanceUID}"}[level]


def _sample(name: str) -> EncodedInstance:
    return EncodedInstance(name, Path(str(get_testdata_file(f"{name}.dcm"))).read_bytes())


def store_body(parts: Sequence[bytes], media_type: str = "application/dicom") -> tuple[dict[str, str], bytes]:
    """Return header fields and body of a Store request."""
    body = b"".join(b"--b\r\nContent-Type: %s\r\n\r\n%s\r\n" % (media_type.encode(), part) for part in parts)
    return {"Content-Type": f'multipart/related; type="{media_type}"; boundary=b'}, body + b"--b--\r\n"


def cases(held: Instances) -> list[Case]:
    """Return all requests."""
    return [*_searches(held), *_retrievals(held), *_frames(held), *_pictures(held), *_stores(held), *_others(held)]


def _searches(held: Instances) -> Iterator[Case]:
    study, ct = held.path(held.ct[0], "study"), held.path(held.ct[0], "series")
    ds, mr = held.ct[0].dataset(), held.mr[0].dataset()
    uid = ds.StudyInstanceUID
    listed = (
        ("all studies", "/studies", "200, 5 objects"),
        ("a trailing slash", "/studies/", "200, 5 objects"),
        ("all series", "/series", "200, 6 objects"),
        ("all instances", "/instances", "200, 12 objects"),
        ("series of a study", f"{study}/series", "200, 2 objects"),
        ("instances of a study", f"{study}/instances", "200, 7 objects"),
        ("instances of a series", f"{ct}/instances", "200, 4 objects"),
        ("StudyInstanceUID", f"/studies?StudyInstanceUID={uid}", "200, 1 objects"),
        ("a list of UIDs, comma", f"/studies?StudyInstanceUID={uid},{held.compressed.study_instance_uid}", "200, 2 objects"),
        ("a list of UIDs, backslash", f"/studies?StudyInstanceUID={uid}%5C{held.compressed.study_instance_uid}", "200, 2 objects"),
        ("a parameter twice", f"/studies?StudyInstanceUID={uid}&StudyInstanceUID={held.compressed.study_instance_uid}", "200, 2 objects"),
        ("a tag instead of a keyword", f"/studies?0020000D={uid}", "200, 1 objects"),
        ("PatientID", "/studies?PatientID=P2", "200, 1 objects"),
        ("PatientName, exact", "/studies?PatientName=M%C3%BCller%5EJ%C3%B6rg", "200, 1 objects"),
        ("PatientName, another case", "/studies?PatientName=m%C3%BCller%5Ej%C3%B6rg", "200, 1 objects"),
        ("PatientName, asterisk", "/studies?PatientName=M%C3%BC*", "200, 1 objects"),
        ("PatientName, question mark", "/studies?PatientName=M?ller%5EJ*", "200, 1 objects"),
        ("PatientName, fuzzy", "/studies?PatientName=mueller&fuzzymatching=true", "200, 1 objects"),
        ("PatientName, nobody", "/studies?PatientName=Nobody", "204"),
        ("AccessionNumber", "/studies?AccessionNumber=ACC2", "200, 1 objects"),
        ("StudyDate, a day", "/studies?StudyDate=20211231", "200, 1 objects"),
        ("StudyDate, a range", "/studies?StudyDate=20211201-20220131", "200, 1 objects"),
        ("StudyDate, until", "/studies?StudyDate=-19000101", "204"),
        ("StudyTime, a range", f"/studies?StudyTime=0000-2359&StudyInstanceUID={uid}", "200, 1 objects"),
        ("StudyDate and StudyTime, one range", f"/studies?StudyDate=20200101-20200103&StudyTime=1200-0900&StudyInstanceUID={uid}", "200, 1 objects"),
        ("StudyDate and StudyTime, another range", f"/studies?StudyDate=20200102-20200103&StudyTime=1012-0900&StudyInstanceUID={uid}", "204"),
        ("StudyDate, with a time zone", f"/studies?StudyDate=20200102&TimezoneOffsetFromUTC=%2B0100&StudyInstanceUID={uid}", "200, 1 objects"),
        ("a time zone that is none", "/studies?StudyDate=20200102&TimezoneOffsetFromUTC=MEZ", "400"),
        ("ModalitiesInStudy", f"/studies?ModalitiesInStudy=MR&StudyInstanceUID={uid}", "200, 1 objects"),
        ("StudyID", f"/studies?StudyID={ds.get('StudyID', '')}&PatientID=P2", "200, 1 objects"),
        ("ReferringPhysicianName, all", "/studies?ReferringPhysicianName=*", "200, 5 objects"),
        ("Modality of series", f"{study}/series?Modality=MR", "200, 1 objects"),
        ("SeriesNumber", f"{study}/series?SeriesNumber={mr.SeriesNumber}&Modality=MR", "200, 1 objects"),
        ("SeriesInstanceUID", f"/series?SeriesInstanceUID={ds.SeriesInstanceUID}", "200, 1 objects"),
        ("RequestAttributesSequence, step", f"{study}/series?RequestAttributesSequence.ScheduledProcedureStepID=SPS7", "200, 1 objects"),
        ("RequestAttributesSequence, by tags", f"{study}/series?00400275.00401001=RP9", "200, 1 objects"),
        ("RequestAttributesSequence, another", f"{study}/series?00400275.00401001=RP8", "204"),
        ("an attribute of series beyond the tables", f"{study}/series?Manufacturer={ds.Manufacturer}", "200, 2 objects"),
        ("SOPClassUID", f"{study}/instances?SOPClassUID={ds.SOPClassUID}", "200, 4 objects"),
        ("InstanceNumber", f"{ct}/instances?InstanceNumber=2", "200, 1 objects"),
        ("limit", "/instances?limit=3", "200, 3 objects"),
        ("limit and offset", "/instances?limit=5&offset=10", "200, 2 objects"),
        ("offset beyond the end", "/studies?offset=99", "204"),
        ("limit that is no number", "/studies?limit=many", "400"),
        ("includefield, keyword", f"{ct}/instances?includefield=PixelSpacing", "200, 4 objects"),
        ("includefield, all", f"{ct}/instances?includefield=all", "200, 4 objects"),
        ("an unknown parameter", "/studies?_dc=1", "200, 5 objects"),
        ("a study that is not here", "/studies/1.2.3/series", "204"),
        ("a UID that is none", "/studies/1..2/series", "400"),
    )  # fmt: skip
    for name, path, expected in listed:
        yield Case("QIDO-RS", name, path, expected)
    yield Case("QIDO-RS", "as application/json", "/studies", "200, 5 objects", "application/json")
    yield Case(
        "QIDO-RS", "as XML", "/studies", "200, 5 parts application/dicom+xml", MULTIPART.format("application/dicom+xml")
    )
    yield Case("QIDO-RS", "as HTML", "/studies", "406", "text/html")


def _retrievals(held: Instances) -> Iterator[Case]:
    def case(name: str, path: str, expected: str, accept: str = JSON, **more: object) -> Case:
        return Case("WADO-RS", name, path, expected, accept, **more)  # type: ignore[arg-type]

    study, ct, one = (held.path(held.ct[0], level) for level in ("study", "series", "instance"))
    small = held.path(held.compressed[0], "series")
    for level, path, n_instances in (("study", study, 7), ("series", ct, 4), ("instance", one, 1)):
        yield case(f"{level}, metadata", f"{path}/metadata", f"200, {n_instances} objects")
        parts = f"200, {n_instances} parts application/dicom {ExplicitVRLittleEndian}"
        yield case(f"{level}, default transfer syntax", path, parts, MULTIPART.format("application/dicom"))
        yield case(f"{level}, any transfer syntax", path, parts, DICOM_PARTS.format("*"))
        yield case(f"{level}, zip", path, f"200, {n_instances} files", "application/zip")
    yield case("instance, as one body", one, "200, application/dicom", "application/dicom")
    xml = MULTIPART.format("application/dicom+xml")
    yield case("metadata as XML", f"{ct}/metadata", "200, 4 parts application/dicom+xml", xml)
    stored = f"200, 2 parts application/dicom {JPEG2000Lossless}"
    yield case("compressed, as stored", small, stored, DICOM_PARTS.format("*"))
    yield case("compressed, its transfer syntax", small, stored, DICOM_PARTS.format(JPEG2000Lossless))
    decoded = f"200, 2 parts application/dicom {ExplicitVRLittleEndian}"
    yield case("compressed, default transfer syntax", small, decoded, MULTIPART.format("application/dicom"))
    for syntax in (JPEG2000Lossless, JPEGLSLossless, RLELossless):
        expected = f"200, 4 parts application/dicom {syntax}"
        yield case(f"to {syntax.name}", ct, expected, DICOM_PARTS.format(syntax))
    yield case("to a transfer syntax that is none", ct, "406", DICOM_PARTS.format("1.2.3"))
    yield case("an instance as image/png", one, "406", "image/png")
    yield case("a study that is not here", "/studies/1.2.3", "404", MULTIPART.format("application/dicom"))
    yield case("metadata that are not here", f"{study}/series/1.2.3/metadata", "404")
    bulk = f"{one}{BULK_DATA}"
    yield case("bulk data", bulk, "200, 1 parts application/octet-stream", OCTETS)
    yield case("bulk data, a range", bulk, "206, 10 bytes", "application/octet-stream", headers={"Range": "bytes=0-9"})
    yield case("HEAD of metadata", f"{ct}/metadata", "200", method="HEAD")


def _frames(held: Instances) -> Iterator[Case]:
    def case(name: str, path: str, expected: str, accept: str = OCTETS) -> Case:
        return Case("Frames", name, path, expected, accept)

    frames, small = held.path(held.frames), held.path(held.compressed[0])
    native = f"application/octet-stream {ExplicitVRLittleEndian}"
    yield case("one frame", f"{frames}/frames/1", f"200, 1 parts {native}")
    yield case("a list of frames", f"{frames}/frames/3,1", f"200, 2 parts {native}")
    yield case("a frame that is not there", f"{frames}/frames/6", "404")
    yield case("frame 0", f"{frames}/frames/0", "400")
    jp2 = f"200, 1 parts image/jp2 {JPEG2000Lossless}"
    yield case("compressed, as stored", f"{small}/frames/1", jp2, MULTIPART.format("image/jp2"))
    yield case("compressed, decoded", f"{small}/frames/1", f"200, 1 parts {native}")
    yield case("native to JPEG 2000", f"{frames}/frames/1", jp2, MULTIPART.format("image/jp2"))
    baseline = f"{MULTIPART.format('image/jpeg')}; transfer-syntax={JPEGBaseline8Bit}"
    yield case("16 bits to baseline JPEG", f"{frames}/frames/1", "406", baseline)


def _pictures(held: Instances) -> Iterator[Case]:
    study, ct, one = (held.path(held.ct[0], level) for level in ("study", "series", "instance"))
    frames = held.path(held.frames)
    for name, path, expected, accept in (
        ("instance, JPEG", f"{one}/rendered", "200, JPEG", "image/jpeg"),
        ("instance, PNG", f"{one}/rendered", "200, PNG", "image/png"),
        ("frame", f"{frames}/frames/2/rendered", "200, JPEG", "image/jpeg"),
        ("series, in parts", f"{ct}/rendered", "200, 4 parts image/jpeg", MULTIPART.format("image/jpeg")),
        ("study, in parts", f"{study}/rendered", "200, 7 parts image/png", MULTIPART.format("image/png")),
        ("colour", f"{held.path(held.colour)}/rendered", "200, PNG", "image/png"),
        ("window", f"{one}/rendered?window=40,400,linear", "200, JPEG", "image/jpeg"),
        ("window, sigmoid", f"{one}/rendered?window=40,400,sigmoid", "200, JPEG", "image/jpeg"),
        ("window without width", f"{one}/rendered?window=40", "400", "image/jpeg"),
        ("viewport", f"{one}/rendered?viewport=64,64", "200, JPEG", "image/jpeg"),
        ("viewport, a region", f"{one}/rendered?viewport=8,8,2,2,8,8", "200, JPEG", "image/jpeg"),
        ("quality", f"{one}/rendered?quality=50", "200, JPEG", "image/jpeg"),
        ("quality beyond 100", f"{one}/rendered?quality=101", "400", "image/jpeg"),
        ("as video", f"{one}/rendered", "406", "video/mpeg"),
        ("thumbnail of an instance", f"{one}/thumbnail", "200, JPEG", "image/jpeg"),
        ("thumbnail of a series", f"{ct}/thumbnail", "200, JPEG", "image/jpeg"),
        ("thumbnail of a study", f"{study}/thumbnail", "200, JPEG", "image/jpeg"),
        ("thumbnail of a frame", f"{frames}/frames/2/thumbnail", "200, JPEG", "image/jpeg"),
    ):
        yield Case("Rendered", name, path, expected, accept)


def _stores(held: Instances) -> Iterator[Case]:
    def case(name: str, parts: Sequence[bytes], expected: str, path: str = "/studies", kind: str = "") -> Case:
        headers, body = store_body(parts, kind or "application/dicom")
        return Case("STOW-RS", name, path, expected, method="POST", headers=headers, body=body)

    ds = held.ct[0].dataset()
    yield case("instances that are here already", [held.ct[0].part10], f"200, {JSON}")
    headers, body = store_body([held.ct[0].part10])
    yield Case("STOW-RS", "answered as XML", "/studies", "200, application/dicom+xml", "application/dicom+xml", method="POST", headers=headers, body=body)  # fmt: skip
    yield case("to their study", [held.ct[0].part10], f"200, {JSON}", held.path(held.ct[0], "study"))
    yield case("to another study", [held.ct[0].part10], "409", held.path(held.compressed[0], "study"))
    yield case("one that is no DICOM among others", [held.ct[0].part10, b"hello"], f"202, {JSON}")
    yield case("nothing but what is no DICOM", [b"hello"], "409")
    ds.SOPInstanceUID = f"{ds.SOPInstanceUID}9"[-64:]
    text = json.dumps([ds.to_json_dict(2**20)]).encode()
    yield case("DICOM JSON", [text], f"200, {JSON}", kind=JSON)
    yield Case("STOW-RS", "a body that is no multipart", "/studies", "415", method="POST", body=b"x", headers={"Content-Type": "text/plain"})  # fmt: skip


def _others(held: Instances) -> Iterator[Case]:
    ds, one = held.ct[0].dataset(), held.path(held.ct[0])
    wado = f"../wado?requestType=WADO&studyUID={ds.StudyInstanceUID}&seriesUID={ds.SeriesInstanceUID}"
    wado += f"&objectUID={ds.SOPInstanceUID}"
    any_type = "*/*"
    yield Case("WADO-URI", "DICOM", f"{wado}&contentType=application/dicom", "200, application/dicom", any_type)
    yield Case("WADO-URI", "JPEG", f"{wado}&contentType=image/jpeg", "200, JPEG", any_type)
    yield Case("WADO-URI", "PNG", f"{wado}&contentType=image/png", "200, PNG", any_type)
    yield Case("WADO-URI", "without requestType", wado.replace("requestType=WADO&", ""), "400", any_type)
    yield Case("Others", "capabilities, WADL", "/", "200, application/vnd.sun.wadl+xml", "application/vnd.sun.wadl+xml", "OPTIONS")  # fmt: skip
    yield Case("Others", "capabilities, JSON", "/", "200, application/json", "application/json", "OPTIONS")
    yield Case("Others", "a method that a resource has not", f"{one}/metadata", "405", any_type, "PUT")
    yield Case("Others", "a resource that is none", "/nothing", "404", any_type)
