"""Uploads: DICOM files, folders and zip archives of them; every file gets an answer, and nothing stored is lost."""

from __future__ import annotations

import html
import io
import stat
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import pytest

from dicom_node.page.uploading import archive
from dicom_node.store import Store
from tests.arrivals import dataset_bytes
from tests.factories import SyntheticSeries, ct_series
from tests.new_store import NewStore
from tests.page.conftest import SCRIPT, hostile
from tests.page.serving import Reader, serve_page

MAX_BYTES = 4 * 2**20
SETTINGS = {"web": {"upload": True, "max_request_bytes": MAX_BYTES}, "dimse": {"max_object_bytes": 2**20}}


@pytest.fixture(scope="module")
def store(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with new_store(tmp_path_factory.mktemp("upload") / "three" / "folders" / "down") as opened:
        yield opened


@pytest.fixture(scope="module")
def url(store: Store) -> Iterator[str]:
    with serve_page(store, SETTINGS) as served:
        yield served


@pytest.fixture
def reader(url: str) -> Iterator[Reader]:
    with Reader(url) as reading:
        yield reading


def contents(series: SyntheticSeries) -> list[bytes]:
    return [instance.part10 for instance in series]


def zipped(files: Mapping[str, bytes] | Sequence[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as packing:
        for name, content in files.items() if isinstance(files, Mapping) else files:
            packing.writestr(name, content)
    return made.getvalue()


def send(reader: Reader, files: Sequence[tuple[str, bytes]], **headers: str) -> httpx.Response:
    """Send the form as the page's script does."""
    fields = reader.hidden("/upload")
    parts = [("files", file) for file in files]
    return reader.client.post("/upload", data=fields, files=parts, headers={"Accept": "application/json"} | headers)


def results(answer: httpx.Response) -> dict[str, tuple[str, str]]:
    return {one["name"]: (one["result"], one["reason"]) for one in answer.json()["files"]}


def stored_bytes(store: Store, uid: str) -> bytes:
    (row,) = store.search.find_instances(sop_instance_uid=uid)
    return store.objects.read_dataset_bytes(row.digest)


def test_files_are_stored_byte_for_byte_and_their_study_is_named(store: Store, reader: Reader) -> None:
    series = ct_series(3, seed="files")
    answer = send(reader, [(f"scan/{number}.dcm", one) for number, one in enumerate(contents(series))])
    assert answer.status_code == 200, answer.text
    assert results(answer) == {f"scan/{number}.dcm": ("stored", "") for number in range(3)}
    (study,) = answer.json()["studies"]
    assert (study["study_instance_uid"], study["n_files"]) == (series.study_instance_uid, 3)
    for instance in series:
        assert stored_bytes(store, instance.dataset().SOPInstanceUID) == dataset_bytes(instance.part10)
    (line,) = store.audit.of(series.study_instance_uid, action="uploaded")
    assert (line.actor, line.detail["n_instances"]) == ("unknown", 3)
    again = send(reader, [("again.dcm", contents(series)[0])])
    assert results(again) == {"again.dcm": ("known", "")}
    assert len(store.audit.of(series.study_instance_uid, action="uploaded")) == 1


def test_another_content_under_a_known_uid_is_kept_aside(reader: Reader) -> None:
    series = ct_series(1, seed="conflict")
    other = contents(series)[0][:-1] + b"\x07"
    answer = send(reader, [("first.dcm", contents(series)[0]), ("second.dcm", other)])
    assert results(answer)["first.dcm"] == ("stored", "")
    assert results(answer)["second.dcm"][0] == "set_aside"


def test_what_is_no_image_is_named_and_the_rest_is_kept(reader: Reader) -> None:
    image = contents(ct_series(1, seed="mixed"))[0]
    answer = send(
        reader,
        [
            ("cd/report.pdf", b"%PDF-1.7" + bytes(500)),
            ("cd/DICOMDIR", image),
            ("cd/.DS_Store", b"Bud1" + bytes(200)),
            ("cd/empty", b""),
            ("cd/short", b"DICM"),
            ("cd/cut.dcm", image[:140]),
            ("cd/all.tar.gz", b"\x1f\x8b" + bytes(200)),
            ("cd/IM1", image),
        ],
    )
    assert answer.status_code == 202
    found = results(answer)
    assert found["cd/IM1"] == ("stored", "")
    assert found["cd/DICOMDIR"][0] == found["cd/.DS_Store"][0] == "left_out"
    assert found["cd/report.pdf"] == ("refused", "no DICOM file")
    assert found["cd/empty"] == ("refused", "an empty file")
    assert found["cd/short"] == ("refused", "no DICOM file")
    assert found["cd/cut.dcm"] == ("refused", "no DICOM file: it ends before its dataset")
    assert "make a zip archive" in found["cd/all.tar.gz"][1]
    assert answer.json()["counts"]["refused"] == 5


def test_an_archive_is_unpacked_and_each_of_its_files_answered(store: Store, reader: Reader) -> None:
    series = ct_series(4, seed="archive")
    first, second, third, fourth = contents(series)
    link = zipfile.ZipInfo("link.dcm")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    made = io.BytesIO(zipped([("../../../etc/passwd", first), ("/abs/IM1", second), ("a/", b""), ("a/IM1", third)]))
    with zipfile.ZipFile(made, "a", zipfile.ZIP_DEFLATED) as packing:
        packing.writestr(link, "/etc/passwd")
        packing.writestr("__MACOSX/a/._IM1", b"x")
        packing.writestr("inner.zip", zipped({"IM2": fourth}))
        packing.writestr("bzip2.dcm", fourth, zipfile.ZIP_BZIP2)
        packing.writestr("notes.txt", "nothing")
    answer = send(reader, [("study.zip", made.getvalue())])
    found = {name.removeprefix("study.zip/"): told for name, told in results(answer).items()}
    stored = ("stored", "")
    assert found["../../../etc/passwd"] == found["/abs/IM1"] == found["a/IM1"] == stored
    assert found["link.dcm"] == ("left_out", "a link")
    assert found["__MACOSX/a/._IM1"] == ("left_out", "a hidden file")
    assert found["inner.zip"] == ("refused", "a zip archive within a zip archive; unpack it first")
    assert found["bzip2.dcm"][1].startswith("packed by a method that is not read here (12)")
    assert found["notes.txt"] == ("refused", "no DICOM file")
    assert len(found) == 8
    around = store.data_dir.parents[2]  # where a name with "../../../" would lead
    assert {path.name for path in around.rglob("*")} & {"passwd", "link.dcm"} == set()
    assert list(store.objects.spool_folder.iterdir()) == []


def test_an_encrypted_archive_says_so(reader: Reader) -> None:
    made = bytearray(zipped({"IM1": contents(ct_series(1, seed="secret"))[0]}))
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        made[made.index(signature) + at] |= 1
    answer = send(reader, [("secret.zip", bytes(made))])
    assert answer.status_code == 422
    assert results(answer)["secret.zip/IM1"][1].startswith("encrypted")


def test_damaged_archives_are_named_and_what_is_whole_is_kept(reader: Reader) -> None:
    first, second = contents(ct_series(2, seed="damaged"))
    whole = zipped({"first": first, "second": second}, zipfile.ZIP_STORED)
    at = whole.rindex(second[-64:])
    damaged = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    answer = send(reader, [("cut.zip", whole[:-30]), ("bad.zip", damaged)])
    found = results(answer)
    assert "upload it again" in found["cut.zip"][1]
    assert found["bad.zip/first"] == ("stored", "")
    assert found["bad.zip/second"] == ("refused", "damaged within the archive")


def test_archives_that_unpack_to_too_much_are_stopped(store: Store, reader: Reader) -> None:
    image = contents(ct_series(1, seed="bomb"))[0]
    bomb = zipped({"one": image + bytes(2 * 2**20), "two": image + bytes(3 * 2**20), "three": image})
    assert len(bomb) < 2**17
    found = results(send(reader, [("bomb.zip", bomb)]))
    assert found["bomb.zip/one"] == ("refused", "larger than dimse.max_object_bytes")
    assert "bomb.zip/three" in found
    many = zipped({f"{number}": image + bytes(2**20 - 2**17) for number in range(8)})
    answer = send(reader, [("many.zip", many)])
    found = results(answer)
    assert found["many.zip/4"] == (
        "refused",
        f"the archive unpacks to more than {MAX_BYTES} bytes (web.max_request_bytes)",
    )
    assert found["many.zip"][1].endswith("3 more files of it were not read")
    assert list(store.objects.spool_folder.iterdir()) == []


def test_a_directory_that_fills_the_memory_is_not_read(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_DIRECTORY_BYTES", 2000)
    made = zipped({f"{number:0200}": b"" for number in range(20)})
    answer = send(reader, [("names.zip", made)])
    assert answer.status_code == 422
    assert "directory is larger than" in results(answer)["names.zip"][1]


def test_a_form_without_scripts_gets_a_page(reader: Reader) -> None:
    series = ct_series(1, seed="plain", edit=hostile)
    fields = reader.hidden("/upload")
    parts = [("files", ("", b"")), ("files", (SCRIPT, b"no image")), ("files", ("IM1", contents(series)[0]))]
    answer = reader.client.post("/upload", data=fields, files=parts)
    assert answer.status_code == 202
    assert SCRIPT not in answer.text
    text = html.unescape(answer.text)
    assert "1 of 2 files stored" in text
    assert SCRIPT in text
    assert f'href="/studies/{series.study_instance_uid}"' in text


def test_nothing_of_a_foreign_form_is_stored(store: Store, reader: Reader) -> None:
    image = contents(ct_series(1, seed="foreign"))[0]
    parts = [("files", ("IM1", image))]
    assert reader.client.post("/upload", data={"token": "x"}, files=parts).status_code == 403
    assert reader.client.post("/upload", files=parts).status_code == 403
    answer = send(reader, [("IM1", image)], Origin="https://evil.example")
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign-request")
    uid = ct_series(1, seed="foreign").study_instance_uid
    assert store.search.find_instances(study_instance_uid=uid) == ()
    lines = [line for line in store.audit.list() if line.action == "foreign-request"]
    assert [(line.actor, line.subject) for line in lines] == [("unknown", "POST /upload")], "one line a minute"


def test_programs_upload_an_archive_or_a_file(reader: Reader) -> None:
    series = ct_series(2, seed="program")
    first, second = contents(series)
    post = reader.client.post
    answer = post("/api/upload", content=zipped({"a": first}), headers={"Content-Type": "application/zip"})
    assert (answer.status_code, results(answer)) == (200, {"archive.zip/a": ("stored", "")})
    answer = post("/api/upload", content=second, headers={"Content-Type": "application/dicom"})
    assert (answer.status_code, results(answer)) == (200, {"instance.dcm": ("stored", "")})
    answer = post("/api/upload", content=second, headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-body")
    answer = post("/api/upload", content=bytes(MAX_BYTES + 1), headers={"Content-Type": "application/zip"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")


def test_where_uploads_are_off_there_is_a_403_and_an_audit_line(new_store: NewStore, tmp_path: Path) -> None:
    with new_store(tmp_path) as store, serve_page(store) as served, Reader(served) as reader:
        assert ">Upload</a>" not in reader.get("/").text
        answer = reader.get("/upload")
        assert answer.status_code == 403
        assert "web.upload: true" in answer.text
        answer = reader.client.post("/api/upload", content=b"x", headers={"Content-Type": "application/dicom"})
        assert (answer.status_code, answer.json()["code"]) == (403, "uploads-off")
        assert reader.client.post("/upload", files=[("files", ("x", b"x"))]).status_code == 403
        assert [(line.action, line.subject) for line in store.audit.list()] == [
            ("uploads-off", "POST /upload"),
            ("uploads-off", "POST /api/upload"),
            ("uploads-off", "GET /upload"),
        ]
