"""Errors of offline runs."""

from __future__ import annotations

from typing import ClassVar

from dicom_node.errors import Refused


class OutputTakenError(Refused):
    """The output folder already holds results of another input under the same name."""

    code: ClassVar[str] = "output-taken"

    def __init__(self, name: str) -> None:
        super().__init__(name)

    def __str__(self) -> str:
        return (
            f"the output folder holds another input's results named {self.args[0]!r}; nothing was changed, "
            "give another output folder or --overwrite"
        )


class NothingFoundError(Refused):
    """An input contains nothing that can be segmented; arguments: its name, what it contains instead or ''."""

    code: ClassVar[str] = "nothing-found"

    def __init__(self, name: str, instead: str = "") -> None:
        super().__init__(name, instead)

    def __str__(self) -> str:
        name, instead = self.args
        return f"{name}: holds no CT or MR series and no NIfTI file{f'; not used: {instead}' if instead else ''}"
