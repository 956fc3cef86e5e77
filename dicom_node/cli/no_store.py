"""The error of commands that need the state of a node that has never run."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from dicom_node.errors import Refused


class NoStoreError(Refused):
    """There is no data directory yet, so there is no state to show."""

    code: ClassVar[str] = "no-store"

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)

    def __str__(self) -> str:
        return (
            f"{self.args[0]}: no such folder, so no node has run with these settings; "
            "pass the node's settings file with -c, or start it with `dicom-node serve`"
        )
