"""Patient IDs that identify nobody: placeholders, which would merge different people."""

from __future__ import annotations

import re
from typing import Final

_NOBODY: Final = frozenset(
    {
        *("anon", "anonym", "anonymous", "anonymized", "anonymised", "deid", "deidentified", "removed", "deleted"),
        *("none", "null", "nil", "na", "nn", "noid", "noname", "nopatientid", "notavailable", "notapplicable"),
        *("unknown", "unk", "unbekannt", "undefined", "unspecified", "tbd", "default", "dummy"),
        *("test", "testpatient", "patient", "patientid"),
    }
)
_SAME_CHARACTER: Final = 4  # so many of one character are a placeholder: 9999, 000-00-0000


def names_nobody(patient_id: str) -> bool:
    """Whether a Patient ID is empty or a placeholder such as ANON, 0 or 999-99-9999."""
    told = re.sub(r"[\W_]+", "", patient_id).casefold()
    is_repeated = len(set(told)) == 1 and (len(told) >= _SAME_CHARACTER or told[0] in "0x")
    return not told or told in _NOBODY or is_repeated
