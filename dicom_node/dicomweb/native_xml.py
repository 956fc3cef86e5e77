"""DICOM JSON objects as XML: the Native DICOM Model (PS3.19 A.1, PS3.18 8.7.3.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from xml.etree import ElementTree as ET

from pydicom.datadict import keyword_for_tag

_NAMESPACE: Final = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_COMPONENTS: Final = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def native_xml(members: Mapping[str, Any]) -> bytes:
    """Return a DICOM JSON object as an XML document; characters that XML cannot hold are left out."""
    model = ET.Element("NativeDicomModel", {"xmlns": _NAMESPACE, "xml:space": "preserve"})
    _add_members(model, members)
    return bytes(ET.tostring(model, encoding="utf-8", xml_declaration=True))


def _add_members(parent: ET.Element, members: Mapping[str, Any]) -> None:
    for tag, member in sorted(members.items()):
        facts = {"tag": tag, "vr": str(member.get("vr", "UN"))}
        keyword = keyword_for_tag(int(tag, 16))
        creator = _creator(tag, members)
        facts |= {"keyword": keyword} if keyword else {}
        facts |= {"privateCreator": _text(creator)} if creator else {}
        attribute = ET.SubElement(parent, "DicomAttribute", facts)
        if "BulkDataURI" in member:
            ET.SubElement(attribute, "BulkData", {"uri": str(member["BulkDataURI"])})
        elif "InlineBinary" in member:
            ET.SubElement(attribute, "InlineBinary").text = str(member["InlineBinary"])
        for number, value in enumerate(member.get("Value", ()), start=1):
            _add_value(attribute, str(number), facts["vr"], value)


def _add_value(attribute: ET.Element, number: str, vr: str, value: Any) -> None:  # noqa: ANN401 - any JSON value
    if vr == "SQ":
        _add_members(ET.SubElement(attribute, "Item", {"number": number}), value or {})
    elif vr == "PN":
        _add_name(ET.SubElement(attribute, "PersonName", {"number": number}), value or {})
    elif value is not None:
        ET.SubElement(attribute, "Value", {"number": number}).text = _text(value)


def _add_name(name: ET.Element, groups: Mapping[str, str]) -> None:
    for group in _GROUPS:
        if groups.get(group):
            element = ET.SubElement(name, group)
            for component, text in zip(_COMPONENTS, groups[group].split("^"), strict=False):
                if text:
                    ET.SubElement(element, component).text = _text(text)


def _creator(tag: str, members: Mapping[str, Any]) -> str:
    """Return the private creator of a private attribute (PS3.5 7.8.1)."""
    if int(tag[:4], 16) % 2 == 0 or tag[4:6] == "00":
        return ""
    found = members.get(f"{tag[:4]}00{tag[4:6]}", {}).get("Value") or [""]
    return str(found[0] or "")


def _text(value: object) -> str:
    return _NOT_IN_XML.sub("", str(value))
