"""Search a written copy again for anything that identifies the patient.

The words come from the source: names, numbers and UIDs, as the source encodes them. They are searched in the bytes
of the copy, independently of the rules that made it, so that a mistake in a rule is found.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Final

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag, Tag

from dicom_node.export.public_words import vocabulary

_NUMBERS: Final = frozenset(
    tag_for_keyword(keyword)
    for keyword in (
        *("PatientID", "OtherPatientIDs", "AccessionNumber", "StudyID", "AdmissionID", "MedicalRecordLocator"),
        *("PatientTelephoneNumbers", "PatientAddress", "RequestedProcedureID", "ScheduledProcedureStepID"),
        *("PerformedProcedureStepID", "FillerOrderNumberImagingServiceRequest"),
        *("PlacerOrderNumberImagingServiceRequest", "MilitaryRank", "PatientInsurancePlanCodeSequence"),
    )
)
_UIDS: Final = frozenset(
    tag_for_keyword(keyword)
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
)
MIN_WORD: Final = 4  # letters of a name; shorter ones occur by chance
MIN_DIGITS: Final = 6
_NAME_WORD: Final = re.compile(rb"[A-Za-z\x80-\xff]{4,64}")
PIXEL_TAGS: Final = (Tag("PixelData"), Tag("FloatPixelData"), Tag("DoubleFloatPixelData"))
_NAME_PART: Final = re.compile(rb"[A-Za-z]{1,64}")
_DIGITS: Final = re.compile(rb"\d+")
_BIRTH_DATE: Final = Tag("PatientBirthDate")
_DATE_VRS: Final = frozenset({"DA", "DT"})
_DECIMAL_POINT: Final = re.compile(rb"\d\.")
_NOTHING: Final = re.compile(rb"(?!)")


@dataclass(frozen=True, slots=True)
class OwnValues:
    """Identifying values of one object's patient, as bytes.

    Attributes
    ----------
    words
        Words of names, in capitals, at least four letters, none of them a word of the standard's own names.
    numbers
        Patient IDs, accession numbers and the like, at least four characters, also without prefix and separators.
    uids
        UIDs of the source that a copy must not contain.
    birth_dates
        Looked for everywhere except in dates, where a moved date may be the same by chance.
    name_parts
        All words of names, in capitals, the short and common ones too.
    """

    words: frozenset[bytes]
    numbers: frozenset[bytes]
    uids: frozenset[bytes]
    birth_dates: frozenset[bytes] = frozenset()
    name_parts: frozenset[str] = frozenset()

    @property
    def capitals(self) -> frozenset[str]:
        """Words and numbers as text, for the rule on code strings."""
        return frozenset(one.decode("ascii", "replace").upper() for one in self.words | self.numbers)

    def is_born_on(self, value: bytes, vr: str) -> bool:
        """Return whether a value that is no date contains a birth date."""
        return vr not in _DATE_VRS and any(
            re.search(rb"(?<![A-Za-z0-9.])" + re.escape(born) + rb"(?![A-Za-z0-9])", value) for born in self.birth_dates
        )

    def pattern(self) -> re.Pattern[bytes]:
        """Return a pattern that matches any of them as a whole word, ignoring case."""
        wanted = sorted(self.words | self.numbers | self.uids)
        if not wanted:
            return _NOTHING
        alternatives = b"|".join(re.escape(one) for one in wanted)
        return re.compile(rb"(?i:(?<![A-Za-z0-9])(?:" + alternatives + rb")(?![A-Za-z0-9]))")


def own_values(source: Dataset) -> OwnValues:
    """Return names, numbers and UIDs of a source, items included; only sequences are decoded."""
    words: set[bytes] = set()
    numbers: set[bytes] = set()
    uids: set[bytes] = set()
    birth_dates: set[bytes] = set()
    name_parts: set[str] = set()
    for tag, vr, value in _values(source):
        if vr == "PN":
            words.update(word.upper() for word in _NAME_WORD.findall(value))
            name_parts.update(part.decode("ascii").upper() for part in _NAME_PART.findall(value))
        elif tag in _NUMBERS:
            for part in map(bytes.strip, value.strip(b"\0").split(b"\\")):
                numbers.update(one for one in (part, *_digits_of(part)) if _is_telling(one))
        elif tag in _UIDS:
            uids.add(value.strip(b" \0"))
        elif tag == _BIRTH_DATE and len(value.strip(b" \0")) == 8:
            birth_dates.add(value.strip(b" \0"))
    return OwnValues(
        frozenset(words - _public_words()),
        frozenset(numbers),
        frozenset(uids - {b""}),
        frozenset(birth_dates),
        frozenset(name_parts),
    )


def _digits_of(number: bytes) -> tuple[bytes, ...]:
    """Return the digits of MRN-48151623 and 4815-1623 as somebody may have typed them elsewhere."""
    return (*_DIGITS.findall(number), b"".join(re.findall(rb"\d", number)))


@cache
def _public_words() -> frozenset[bytes]:
    return frozenset(word.encode("ascii") for word in vocabulary())


def _is_telling(number: bytes) -> bool:
    """Return whether a number is long enough not to occur by chance, unlike a series number."""
    return len(number) >= (MIN_DIGITS if number.isdigit() else MIN_WORD)


def find_residue(
    copy: Dataset,
    header: Iterable[bytes],
    own: OwnValues,
    public: Collection[int] = (),
    safe_private: Mapping[tuple[str, int], Collection[int]] = MappingProxyType({}),
) -> str | None:
    """Return where a copy still identifies the patient, or None.

    Parameters
    ----------
    copy
        The written copy, read again.
    header
        Its bytes without the pixel data, in parts.
    own
        Identifying values of the source.
    public
        Tags whose values the profile lists as public; a patient may have the name of a scanner.
    safe_private
        Private elements that the profile keeps: element numbers within the block, by creator and group.
    """
    for tag, creator in _private_elements(copy):
        if tag.element & 0xFF not in safe_private.get((creator, tag.group), ()):
            return f"private element {tag}"
    pattern = own.pattern()
    places = [
        tag
        for tag, vr, value in _values(copy)
        if _holds(value, pattern, is_decimal=vr == "DS") or own.is_born_on(value, vr)
    ]
    place = next((tag for tag in places if tag not in public), None)
    if place is not None or (not places and any(_holds(part, pattern, is_decimal=True) for part in header)):
        return f"a word, number or UID of the source in {place or 'its bytes'}"
    return None


def _values(ds: Dataset) -> Iterator[tuple[BaseTag, str, bytes]]:
    """Yield tag, dictionary VR and bytes of every raw element, those in sequences included."""
    for tag in ds.keys():  # noqa: SIM118 - iterating a Dataset decodes every element
        try:
            vr = dictionary_VR(tag)
        except KeyError:
            continue
        if vr == "SQ":
            element = ds[tag]
            for item in (element.value or ()) if element.VR == "SQ" else ():
                yield from _values(item)
            continue
        raw = ds.get_item(tag)
        if isinstance(raw, RawDataElement):
            if raw.value is not None and tag not in PIXEL_TAGS and len(raw.value) < 2**20:
                yield tag, vr, raw.value
        elif raw is not None and raw.value is not None and not isinstance(raw.value, bytes):
            yield tag, vr, str(raw.value).encode("utf-8", "replace")


def _holds(value: bytes, pattern: re.Pattern[bytes], *, is_decimal: bool) -> bool:
    """Return whether a value holds a match; digits after a decimal point are none, since they occur by chance."""
    return any(
        not (is_decimal and _DECIMAL_POINT.fullmatch(value, max(0, found.start() - 2), found.start()))
        for found in pattern.finditer(value)
    )


def _private_elements(ds: Dataset) -> Iterator[tuple[BaseTag, str]]:
    """Yield every private element with its creator, those in sequences included."""
    for tag in ds.keys():  # noqa: SIM118
        if tag.is_private:
            if tag.element >= 0x1000:
                creator = ds.get(Tag(tag.group, tag.element >> 8))
                yield tag, "" if creator is None else str(creator.value or "").strip()
            continue
        raw = ds.get_item(tag)
        if raw is not None and (raw.VR == "SQ" or (raw.VR in (None, "UN") and _is_sequence(tag))):
            element = ds[tag]
            for item in (element.value or ()) if element.VR == "SQ" else ():
                yield from _private_elements(item)


def _is_sequence(tag: BaseTag) -> bool:
    try:
        return dictionary_VR(tag) == "SQ"
    except KeyError:
        return False
