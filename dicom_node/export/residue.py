"""Search a written copy again for anything that identifies the patient.

The words come from the source: names, numbers and UIDs, as the source encodes them. They are searched in the bytes
of the copy, independently of the rules that made it, so that a mistake in a rule is found.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
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
_NOTHING: Final = re.compile(rb"(?!)")


@dataclass(frozen=True, slots=True)
class OwnValues:
    """Identifying values of one object's patient, as bytes.

    Attributes
    ----------
    words
        Words of names, in capitals, at least four letters, none of them a word of the standard's own names.
    numbers
        Patient IDs, accession numbers and the like, at least four characters.
    uids
        UIDs of the source that a copy must not contain.
    """

    words: frozenset[bytes]
    numbers: frozenset[bytes]
    uids: frozenset[bytes]

    @property
    def capitals(self) -> frozenset[str]:
        """Words and numbers as text, for the rule on code strings."""
        return frozenset(one.decode("ascii", "replace").upper() for one in self.words | self.numbers)

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
    for tag, vr, value in _values(source):
        if vr == "PN":
            words.update(word.upper() for word in _NAME_WORD.findall(value))
        elif tag in _NUMBERS:
            numbers.update(part for part in map(bytes.strip, value.strip(b"\0").split(b"\\")) if _is_telling(part))
        elif tag in _UIDS:
            uids.add(value.strip(b" \0"))
    return OwnValues(frozenset(words - _public_words()), frozenset(numbers), frozenset(uids - {b""}))


@cache
def _public_words() -> frozenset[bytes]:
    return frozenset(word.encode("ascii") for word in vocabulary())


def _is_telling(number: bytes) -> bool:
    """Return whether a number is long enough not to occur by chance, unlike a series number."""
    return len(number) >= (MIN_DIGITS if number.isdigit() else MIN_WORD)


def find_residue(
    copy: Dataset, header: Iterable[bytes], pattern: re.Pattern[bytes], public: Collection[int] = ()
) -> str | None:
    """Return where a copy still identifies the patient, or None.

    Parameters
    ----------
    copy
        The written copy, read again.
    header
        Its bytes without the pixel data, in parts.
    pattern
        `OwnValues.pattern` of the source.
    public
        Tags whose values the profile lists as public; a patient may have the name of a scanner.
    """
    private = next((tag for tag in _tags(copy) if tag.is_private and tag.element >= 0x1000), None)
    if private is not None:
        return f"private element {private}"
    places = [tag for tag, _, value in _values(copy) if pattern.search(value)]
    place = next((tag for tag in places if tag not in public), None)
    if place is not None or (not places and any(pattern.search(part) for part in header)):
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


def _tags(ds: Dataset) -> Iterator[BaseTag]:
    for tag in ds.keys():  # noqa: SIM118
        yield tag
        raw = ds.get_item(tag)
        if raw is not None and (raw.VR == "SQ" or (raw.VR in (None, "UN") and _is_sequence(tag))):
            element = ds[tag]
            for item in (element.value or ()) if element.VR == "SQ" else ():
                yield from _tags(item)


def _is_sequence(tag: BaseTag) -> bool:
    try:
        return dictionary_VR(tag) == "SQ"
    except KeyError:
        return False
