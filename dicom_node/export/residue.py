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
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag, Tag

from dicom_node.export.codes import known_meanings
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
_METHOD: Final = Tag("DeidentificationMethod")
_MEANING: Final = Tag("CodeMeaning")
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

    def kind_of(self, found: bytes) -> str:
        """Return what kind of value was found, without it."""
        if found in self.words:
            return "a word of a name"
        return "a UID" if found in self.uids else "a number"

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
    stated: Collection[bytes] = (),
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
    stated
        Values of De-identification Method that every copy has; a patient may have a name that is a word of them. Nor
        does a Code Meaning reveal a name if it is the one of a public table for its code.
    safe_private
        Private elements that the profile keeps: element numbers within the block, by creator and group.
    """
    for tag, creator in _private_elements(copy):
        if tag.element & 0xFF not in safe_private.get((creator, tag.group), ()):
            return f"private element {tag}"
    pattern = own.pattern()
    met: set[bytes] = set()  # where they reveal nothing
    for tag, vr, value, item in _placed_values(copy):
        found = {match.upper() for match in _found(value, pattern, is_decimal=vr == "DS")}
        is_harmless = tag in public or _is_stated(item, tag, value, stated)
        if own.is_born_on(value, vr) and not is_harmless:
            return f"a birth date of the source in {_shown(tag)}"
        if found and not is_harmless:
            return f"{own.kind_of(min(found))} of the source in {_shown(tag)}"
        met |= found
    for part in header:
        elsewhere = {match.upper() for match in _found(part, pattern, is_decimal=True)} - met
        if elsewhere:
            return f"{own.kind_of(min(elsewhere))} of the source in its bytes"
    return None


def _shown(tag: BaseTag) -> str:
    return f"{tag} {keyword_for_tag(tag)}".strip()


def _is_stated(item: Dataset, tag: BaseTag, value: bytes, stated: Collection[bytes]) -> bool:
    """Return whether every copy has this text, or every code of its kind: nothing of it is from the source."""
    text = value.strip(b" \0")
    if tag == _METHOD:
        return text in stated
    if tag != _MEANING:
        return False
    scheme = str(item.get("CodingSchemeDesignator", "")).strip()
    codes = (str(item.get(keyword, "")).strip() for keyword in ("CodeValue", "LongCodeValue"))
    meanings = {meaning for code in codes for meaning in known_meanings(code, scheme)}
    return text in {form.encode("utf-8") for meaning in meanings for form in (meaning, meaning[:64])}


def _values(ds: Dataset) -> Iterator[tuple[BaseTag, str, bytes]]:
    for tag, vr, value, _ in _placed_values(ds):
        yield tag, vr, value


def _placed_values(ds: Dataset) -> Iterator[tuple[BaseTag, str, bytes, Dataset]]:
    """Yield tag, dictionary VR, bytes and dataset of every raw element, those in sequences included."""
    for tag in ds.keys():  # noqa: SIM118 - iterating a Dataset decodes every element
        try:
            vr = dictionary_VR(tag)
        except KeyError:
            continue
        if vr == "SQ":
            element = ds[tag]
            for item in (element.value or ()) if element.VR == "SQ" else ():
                yield from _placed_values(item)
            continue
        raw = ds.get_item(tag)
        if isinstance(raw, RawDataElement):
            if raw.value is not None and tag not in PIXEL_TAGS and len(raw.value) < 2**20:
                yield tag, vr, raw.value, ds
        elif raw is not None and raw.value is not None and not isinstance(raw.value, bytes):
            yield tag, vr, str(raw.value).encode("utf-8", "replace"), ds


def _found(value: bytes, pattern: re.Pattern[bytes], *, is_decimal: bool) -> Iterator[bytes]:
    """Yield the matches in a value; digits after a decimal point are none, since they occur by chance."""
    for found in pattern.finditer(value):
        if not (is_decimal and _DECIMAL_POINT.fullmatch(value, max(0, found.start() - 2), found.start())):
            yield found.group()


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
