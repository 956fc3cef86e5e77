"""Objects with a unique marker in every place that may identify somebody, and a detector that finds each of them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from io import BytesIO

from pydicom import Dataset, dcmread, dcmwrite
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from dicom_node.export.standard_table import read_table
from tests.factories import EncodedInstance, ct_series, enhanced_mr, mr_series

_KEPT_ON_PURPOSE = {  # attributes whose planted value is replaced by the test itself, or that name the class
    *("SOPClassUID", "TransferSyntaxUID", "SpecificCharacterSet", "PatientID", "SOPInstanceUID"),
    *("SeriesInstanceUID", "StudyInstanceUID", "TimezoneOffsetFromUTC"),
}


@dataclass
class Planter:
    """Writes markers; ``planted`` maps each to its place."""

    seed: int
    planted: dict[bytes, str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def marker(self, place: str, prefix: str = "Qx") -> str:
        letters = random.Random(f"{self.seed}-{next(self._numbers)}")
        text = prefix + "".join(letters.choice("bcdfghjklmnpqrstvwxz") for _ in range(9))
        self.planted[text.encode()] = place
        return text

    def value(self, vr: str, place: str) -> object:
        """A value of this VR that can be found again; None where a VR holds numbers alone."""
        number = len(self.planted) + 1
        if vr == "PN":
            return f"{self.marker(place)}^{self.marker(place)}"
        if vr == "UI":
            text = f"1.2.276.0.{self.seed % 977}.{number}.77"
            self.planted[text.encode()] = place
            return text
        if vr in ("DA", "DT"):
            day = date(1931, 1, 1) + timedelta(days=number)
            text = day.strftime("%Y%m%d") + ("101112" if vr == "DT" else "")
            self.planted[text[:8].encode()] = place
            return text
        if vr in ("CS", "AE", "SH"):
            text = self.marker(place)[:16]
            if vr == "CS":
                self.planted[text.upper().encode()] = self.planted.pop(text.encode())
                return text.upper()
            return text
        if vr in ("LO", "LT", "ST", "UC", "UT", "UR"):
            return self.marker(place)
        if vr.split(" or ")[0] in ("OB", "OW", "UN"):
            text = self.marker(place)
            return text.encode() + b"\0" * (len(text) % 2)
        return None

    def put(self, ds: Dataset, tag: int, place: str) -> None:
        """Plant at a tag, of the VR that the dictionary has; sequences hold a name and a text."""
        try:
            vr = dictionary_VR(tag)
        except KeyError:
            vr = "LO"
        if vr == "SQ":
            item = Dataset()
            item.PatientName = f"{self.marker(place)}^{self.marker(place)}"
            item.add_new(0x00400254, "LO", self.marker(place))
            ds[tag] = DataElement(Tag(tag), "SQ", Sequence([item]))
            return
        value = self.value(vr, place)
        if value is not None:
            ds[tag] = DataElement(Tag(tag), vr.split(" or ")[0], value)

    def everything(self, ds: Dataset, place: str) -> None:
        """Plant at every attribute of the standard's table that the object may do without."""
        for tag in sorted(read_table()):
            if tag >> 16 > 0x0007 and Tag(tag).is_private is False and _keyword(tag) not in _KEPT_ON_PURPOSE:
                self.put(ds, tag, f"{place} {Tag(tag)}")

    def beyond_the_table(self, ds: Dataset) -> None:
        """Plant where the table says nothing: text attributes of vendors, private groups, local codes, addresses."""
        for tag in (0x00181160, 0x00181020, 0x0018102B, 0x00081190, 0x00080054, 0x00620020, 0x00700080):
            self.put(ds, tag, f"unlisted {Tag(tag)}")
        ds.add_new(0x00091010, "LO", self.marker("private without creator"))
        block = ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x10, "OB", self.marker("vendor blob").encode() + b"\0")
        inner = Dataset()
        inner.PatientName = self.marker("name in a private sequence")
        block.add_new(0x20, "SQ", [inner])
        ds.add_new(0x00081234, "LO", self.marker("unknown even-group element"))
        ds.add_new(0x60000022, "LO", self.marker("overlay description"))
        ds.add_new(0x50000022, "LO", self.marker("curve description"))
        ds.add_new(0xFFFCFFFC, "OB", self.marker("trailing padding").encode() + b"\0")
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator = "LOCAL1", "99HOSPITAL"
        code.CodeMeaning = self.marker("meaning of a local code")
        ds.AnatomicRegionSequence = [code]
        anatomy = Dataset()
        anatomy.CodeValue, anatomy.CodingSchemeDesignator = "69536005", "SCT"
        anatomy.CodeMeaning = self.marker("meaning of a public code")
        ds.PrimaryAnatomicStructureSequence = [anatomy]
        wrong = Dataset()
        wrong.add_new(0x00104000, "UN", self.marker("comments as UN").encode() + b"\0")
        ds.ReferencedImageSequence = [wrong]

    def found_in(self, content: bytes) -> list[str]:
        """Places whose marker the bytes of an object still hold, plain or in UTF-16."""
        upper = content.upper()
        return [
            place
            for marker, place in self.planted.items()
            if marker.upper() in upper or marker.decode().encode("utf-16-le") in content
        ]


def hosts() -> dict[str, Dataset]:
    """Objects to plant in: CT, MR and enhanced MR."""
    found = {name: dcmread(instance.open()) for name, instance in _host_instances().items()}
    for ds in found.values():
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    return found


@cache
def _host_instances() -> dict[str, EncodedInstance]:
    ct, mr = (series(n_slices=4, spacing_mm=(3.0, 0.8, 0.7)) for series in (ct_series, mr_series))
    return {"ct": ct[0], "mr": mr[0], "enhanced": enhanced_mr(mr)}


def encoded(ds: Dataset) -> bytes:
    """Part 10 bytes, with a preamble that holds something."""
    ds.preamble = ds.preamble or bytes(128)
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def _keyword(tag: int) -> str:
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag)
