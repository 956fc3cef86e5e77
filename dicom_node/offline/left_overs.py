"""Remove what killed attempts at the items of a run left in the output folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dicom_node.offline.items import Item
from dicom_node.offline.replacing import clear_left_overs

_STACK = re.compile(r"-stack\d+$")


def clear_items(root: Path, items: Sequence[Item]) -> None:
    """Remove unfinished folders of these items; those of another run's items stay."""
    names = {item.name for item in items}
    clear_left_overs(root, lambda name: name in names or _STACK.sub("", name) in names)
