"""Error of the demo."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from dicom_node.errors import Refused


class DemoError(Refused):
    """The demo failed; arguments: what happened, the node's log."""

    code: ClassVar[str] = "demo"

    def __init__(self, what: str, log: Path) -> None:
        super().__init__(what, log)

    def __str__(self) -> str:
        what, log = self.args
        return f"{what}; the node's log is {log}"
