"""Errors of the command ``dataset``."""

from __future__ import annotations

from typing import ClassVar

from dicom_node.errors import Refused, Transient


class NothingSegmentedError(Refused):
    """A source is not a folder that ``segment`` wrote."""

    code: ClassVar[str] = "nothing-segmented"

    def __init__(self, folder: str) -> None:
        super().__init__(folder)

    def __str__(self) -> str:
        return f"{self.args[0]}: holds no <volume>/report.json; name a folder that dicom-node segment wrote"


class DatasetOutputError(Refused):
    """The output folder cannot be used; arguments: its name, what is wrong with it."""

    code: ClassVar[str] = "dataset-output"

    def __init__(self, folder: str, problem: str) -> None:
        super().__init__(folder, problem)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


class WorkerKilledError(Transient):
    """A worker process ended without an answer."""

    code: ClassVar[str] = "worker-killed"

    def __str__(self) -> str:
        return "a worker process was killed, perhaps because memory ran out; finished volumes are kept, use --workers 1"


class VolumeRefused(Refused):
    """A volume that must not be in a dataset; arguments: the code, and one sentence with the values."""

    code: ClassVar[str] = "volume-refused"

    def __init__(self, reason_code: str, reason: str) -> None:
        super().__init__(reason_code, reason)

    @property
    def reason_code(self) -> str:
        """Why, for programs."""
        return str(self.args[0])

    def __str__(self) -> str:
        return str(self.args[1])
