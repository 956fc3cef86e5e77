"""De-identify one object: apply the rules to every element of every item, then state what was done.

Works on pydicom's raw elements, so that kept elements stay identical byte for byte and dropped ones are never decoded.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from pydicom import Dataset
from pydicom._uid_dict import UID_dictionary  # the dictionary itself has no public name
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag, Tag

from dicom_node.export.codes import clean_code
from dicom_node.export.profile import Profile
from dicom_node.export.pseudonyms import STANDARD_ROOT, Pseudonyms
from dicom_node.export.public_words import is_public_code_string
from dicom_node.export.residue import OwnValues
from dicom_node.export.rules import CLASS_UID_KEYWORDS, Do, Rule, Rules
from dicom_node.export.standard_table import Option
from dicom_node.export.statements import CODE_SEQUENCE_KEYWORDS, state_what_was_done
from dicom_node.export.subject import subject_values
from dicom_node.export.values import are_numbers, capped_age, components, dummy, is_time, moved_dates
from sr_writer.encoding import encoded_element

_PERSON_CODES: Final = frozenset({"PersonIdentificationCodeSequence"})
_VALUE_KEYWORDS: Final = {
    "TEXT": "TextValue",
    "PNAME": "PersonName",
    "DATE": "Date",
    "DATETIME": "DateTime",
    "TIME": "Time",
}
_TRACKING_IDENTIFIER: Final = ("112039", "DCM")
_TEXT_VRS: Final = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
)


@dataclass(slots=True)
class Report:
    """What was done to the attributes of one or more objects: counts, never values."""

    actions: Counter[tuple[str, str]] = field(default_factory=Counter)  # (keyword or tag, action)
    n_unknown: int = 0  # even-group elements that are not in the dictionary
    n_private: int = 0

    def add(self, other: Report) -> None:
        """Add the counts of another report."""
        self.actions.update(other.actions)
        self.n_unknown += other.n_unknown
        self.n_private += other.n_private


@dataclass(frozen=True, slots=True)
class PatientKey:
    """Identity of an object's patient, from which pseudonyms are computed."""

    patient_id: str
    issuer: str


class Cleaner:
    """De-identifies objects under one profile and one set of pseudonyms."""

    def __init__(self, profile: Profile, pseudonyms: Pseudonyms) -> None:
        self.pseudonyms = pseudonyms
        self.words = frozenset(profile.code_strings)
        self.patterns = {keyword: [re.compile(one) for one in several] for keyword, several in profile.text.items()}
        self.public_tags = frozenset(tag_for_keyword(keyword) or 0 for keyword in profile.text)
        self.safe_private: dict[tuple[str, int], set[int]] = {}
        for one in profile.safe_private:
            self.safe_private.setdefault((one.creator, one.group), set()).add(one.element)
        self.profile = profile
        self._rules: dict[str, Rules] = {}

    def clean(
        self, source: Dataset, patient: PatientKey, own: OwnValues, *, is_face_gone: bool = False
    ) -> tuple[Dataset, Report]:
        """Return a de-identified copy of a dataset.

        Parameters
        ----------
        source
            Dataset as read; its elements are not changed.
        own
            Words of the patient's names and numbers; a code string that contains one, or is made of them, is not kept.
        is_face_gone
            Whether a verdict or a person says so for this image; nothing else may set (0028,0302) to NO.
        """
        sop_class_uid = str(source.get("SOPClassUID", ""))
        rules = self._rules.setdefault(sop_class_uid, Rules(self.profile, sop_class_uid))
        run = _Run(self, rules, self.pseudonyms.date_offset(patient.patient_id, patient.issuer), own)
        copy = run.items_of(source, "")
        pseudonym = self.pseudonyms.patient(patient.patient_id, patient.issuer)
        copy.PatientID = pseudonym
        copy.PatientName = pseudonym
        state_what_was_done(source, copy, self.profile, run.carried_out, is_face_gone=is_face_gone)
        return copy, run.report


class _Run:
    """State while one object is de-identified."""

    def __init__(self, cleaner: Cleaner, rules: Rules, offset: timedelta, own: OwnValues) -> None:
        self.report = Report()
        self.carried_out: set[Option] = set()
        self._cleaner = cleaner
        self._rules = rules
        self._offset = offset
        self._own_words = own.capitals
        self._name_parts = own.name_parts

    def items_of(self, source: Dataset, parent: str) -> Dataset:
        """Return a copy of one dataset or item."""
        copy = Dataset()
        is_code = parent in CODE_SEQUENCE_KEYWORDS or (0x0008, 0x0102) in source
        of_subject = self._of_subject(source) if parent == "ContentSequence" else {}
        for tag in source.keys():  # noqa: SIM118 - iterating a Dataset decodes every element
            number = int(tag)
            if number >> 16 & 1:
                self._private(source, copy, tag)
                continue
            rule = self._rules.rule(parent, number)
            if not rule.keyword:
                self.report.n_unknown += 1
                continue
            if rule.keyword in of_subject:
                do, copy[tag] = of_subject[rule.keyword]
                self.report.actions[rule.keyword, do.name.lower()] += 1
                continue
            self._element(source, copy, tag, rule)
        if is_code:
            clean_code(source, copy, self._cleaner.pseudonyms, is_person=parent in _PERSON_CODES)
        if parent == "ContentSequence":
            self._content_item(source, copy)
        return copy

    def _element(self, source: Dataset, copy: Dataset, tag: BaseTag, rule: Rule) -> None:
        do = rule.do
        if do is Do.RECURSE:
            do = self._sequence(source, copy, tag, rule)
        elif do not in (Do.DROP, Do.EMPTY, Do.DUMMY):
            do = self._value(source, copy, tag, rule)
        if do is Do.EMPTY:
            copy[tag] = encoded_element(tag, rule.vr[:2], b"")
        elif do is Do.DUMMY:
            vr = rule.vr[:2]
            copy[tag] = encoded_element(tag, vr, dummy(vr)) if vr != "SQ" else DataElement(tag, "SQ", [])
        self.report.actions[rule.keyword, do.name.lower()] += 1

    def _value(self, source: Dataset, copy: Dataset, tag: BaseTag, rule: Rule) -> Do:
        """Apply a rule that depends on the value; return the action that was taken."""
        element = source.get_item(tag)
        encoded = _encoded(element, rule.vr)
        if encoded is None:  # another VR than the dictionary's, which the value does not fit
            return rule.otherwise
        do = rule.do
        value: bytes | None = encoded
        if rule.keyword == "PatientAge":
            value = capped_age(encoded)
        elif do is Do.MAP_UID:
            value = self._mapped_uids(encoded, rule.keyword)
        elif do is Do.MOVE_DATE:
            value = moved_dates(encoded, rule.vr, self._offset)
            if value is not None:
                self.carried_out.add(Option.MODIFIED_DATES)
        elif do is Do.KEEP_TIME:
            value = encoded if is_time(encoded) else None
        elif do is Do.CHECK_NUMBERS:
            value = encoded if are_numbers(encoded, rule.vr) else None
        elif do is Do.CHECK_CODE_STRING:
            value = self._checked_code_string(encoded, rule.keyword)
        elif do is Do.CHECK_TEXT:
            value = self._checked_text(encoded, rule)
        if value is None:
            return rule.otherwise
        if value is encoded and isinstance(element, RawDataElement) and (element.VR is None or element.VR in rule.vr):
            copy[tag] = element
        elif rule.vr in _TEXT_VRS:
            copy[tag] = encoded_element(tag, rule.vr, value)
        else:
            copy[tag] = source[tag]
        return do

    def _sequence(self, source: Dataset, copy: Dataset, tag: BaseTag, rule: Rule) -> Do:
        element = source[tag]
        if element.VR != "SQ":
            return rule.otherwise
        copy[tag] = DataElement(tag, "SQ", DicomSequence([self.items_of(item, rule.keyword) for item in element.value]))
        return Do.RECURSE

    def _mapped_uids(self, encoded: bytes, keyword: str) -> bytes:
        uids = [part.decode("ascii", "surrogateescape") for part in components(encoded)]
        if keyword in CLASS_UID_KEYWORDS:
            return "\\".join(uid for uid in uids if _is_uid(uid)).encode("ascii")
        return "\\".join(self._mapped_uid(uid) if uid else "" for uid in uids).encode("ascii")

    def _mapped_uid(self, uid: str) -> str:
        if uid.startswith(STANDARD_ROOT) and uid not in UID_dictionary:
            return self._cleaner.pseudonyms.mapped_uid(uid)
        return self._cleaner.pseudonyms.uid(uid)

    def _checked_code_string(self, encoded: bytes, keyword: str) -> bytes | None:
        kept: list[str] = []
        words = self._cleaner.words
        for part in components(encoded):
            text = part.decode("ascii", "replace")
            if not is_public_code_string(text, words) or self._is_of_the_patient(text.replace("_", " ").split()):
                if keyword != "ImageType" or len(kept) < 2:
                    return None
                text = "OTHER"  # a vendor's word; keep its position in Image Type
            kept.append(text)
        return "\\".join(kept).encode("ascii")

    def _is_of_the_patient(self, words: list[str]) -> bool:
        """Return whether one of the words names the patient, or all of several do, however short or common they are."""
        return not self._own_words.isdisjoint(words) or (len(words) > 1 and self._name_parts.issuperset(words))

    def _checked_text(self, encoded: bytes, rule: Rule) -> bytes | None:
        try:
            texts = [part.decode("ascii").strip() for part in components(encoded)]
        except UnicodeDecodeError:
            return None
        patterns = self._cleaner.patterns[rule.keyword]
        if not all(not text or any(pattern.fullmatch(text) for pattern in patterns) for text in texts):
            return None
        if rule.is_described and any(texts):
            self.carried_out.add(Option.CLEAN_DESCRIPTORS)
        return encoded

    def _private(self, source: Dataset, copy: Dataset, tag: BaseTag) -> None:
        """Keep a private element that the profile lists with its creator (PS3.15 E.3.10)."""
        self.report.n_private += 1
        safe = self._cleaner.safe_private
        if not safe or tag.element < 0x1000:
            return
        creator_tag = Tag(tag.group, tag.element >> 8)
        if creator_tag not in source:
            return
        creator = str(source[creator_tag].value or "").strip()
        if tag.element & 0xFF in safe.get((creator, tag.group), ()) and source[tag].VR != "SQ":
            copy[creator_tag] = source[creator_tag]
            copy[tag] = source[tag]
            self.report.actions[f"{tag.group:04X},{creator},{tag.element & 0xFF:02X}", "keep"] += 1

    def _of_subject(self, source: Dataset) -> dict[str, tuple[Do, DataElement | RawDataElement]]:
        is_kept = self._cleaner.profile.patient_characteristics
        return subject_values(_concept(source), source, keeps_characteristics=is_kept)

    def _content_item(self, source: Dataset, copy: Dataset) -> None:
        """Clean the values of an SR content item (PS3.3 C.17.3): keep its type, not its text."""
        self.carried_out.add(Option.CLEAN_STRUCTURED_CONTENT)
        keyword = _VALUE_KEYWORDS.get(str(source.get("ValueType", "")))
        if keyword is None or keyword not in source:
            return
        tag = Tag(keyword)
        vr = dictionary_VR(tag)
        if keyword == "TextValue" and _concept(source) == _TRACKING_IDENTIFIER:
            word = self._cleaner.pseudonyms.word("tracking", str(source[tag].value))
            copy[tag] = encoded_element(tag, vr, word.encode("ascii"))
        elif tag not in copy:
            copy[tag] = encoded_element(tag, vr, dummy(vr))


def _concept(item: Dataset) -> tuple[str, str]:
    """Return code and scheme of a content item's concept name; empty if it has none."""
    for name in item.get("ConceptNameCodeSequence") or ():
        return str(name.get("CodeValue", "")), str(name.get("CodingSchemeDesignator", ""))
    return "", ""


def _encoded(element: DataElement | RawDataElement | None, vr: str) -> bytes | None:
    """Return the bytes of a value that can be read as ``vr``, else None; empty for a decoded value that is not text."""
    if isinstance(element, RawDataElement):
        found = element.VR
        fits = found is None or found in vr or found == "UN" or (found in _TEXT_VRS and vr in _TEXT_VRS)
        return (element.value or b"") if fits else None
    if element is None or element.value is None:
        return b""
    if vr not in _TEXT_VRS:
        return b""
    parts = element.value if element.VM > 1 else [element.value]
    return "\\".join(str(part) for part in parts).encode("utf-8", "replace")


def _is_uid(text: str) -> bool:
    return 0 < len(text) <= 64 and all(part.isdigit() for part in text.split("."))
