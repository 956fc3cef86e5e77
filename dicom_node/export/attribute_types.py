"""Types of attributes (1, 1C, 2, 2C, 3) in each IOD, from the tables that highdicom ships (PS3.3).

A compound action such as X/Z/D means "the mildest that the type allows", so the type has to be known.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from highdicom import _standard_utils as standard  # the tables have no public name; a test checks them

_STRICTNESS = {"1": 4, "1C": 3, "2": 2, "2C": 1, "3": 0}


@cache
def types_of_iod(sop_class_uid: str) -> dict[tuple[str, str], str]:
    """Return the strictest type of each attribute of an IOD by (keyword of the enclosing sequence or "", keyword).

    Empty for a SOP class that is not in the tables.
    """
    iod = standard.get_sop_class_iod_map().get(sop_class_uid)
    if iod is None:
        return {}
    types: dict[tuple[str, str], str] = {}
    for module in standard.get_iod_module_map()[iod]:
        for attribute in _attributes(module["key"]):
            path = attribute["path"]
            key = (path[-1] if path else "", attribute["keyword"])
            kind = attribute["type"]
            if kind in _STRICTNESS and _STRICTNESS[kind] > _STRICTNESS.get(types.get(key, ""), -1):
                types[key] = kind
    return types


def _attributes(module: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = standard.get_module_attribute_map().get(module, [])
    return found
