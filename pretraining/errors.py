"""Errors of this package: final, or worth another try."""

from __future__ import annotations

from typing import ClassVar


class PretrainingError(Exception):
    """Base of all errors of this package."""

    code: ClassVar[str] = "pretraining"


class Refused(PretrainingError):
    """The input will never work; trying again cannot help."""


class Transient(PretrainingError):
    """The same command may work later."""


class VolumeRefused(Refused):
    """A volume that no network should learn from; facts: the reason's code, one sentence with the values."""

    code: ClassVar[str] = "pretraining-volume"

    def __init__(self, reason_code: str, reason: str) -> None:
        super().__init__(reason_code, reason)

    @property
    def reason_code(self) -> str:
        """Why, for programs."""
        return str(self.args[0])

    def __str__(self) -> str:
        return str(self.args[1])


class DatasetRefused(Refused):
    """A dataset that cannot be pretrained on; facts: its folder, what is wrong with it."""

    code: ClassVar[str] = "pretraining-dataset"

    def __init__(self, folder: str, problem: str) -> None:
        super().__init__(folder, problem)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


class DiskFullError(Transient):
    """The disk is full; facts: where something was to be written."""

    code: ClassVar[str] = "pretraining-disk-full"

    def __init__(self, place: str) -> None:
        super().__init__(place)

    def __str__(self) -> str:
        return f"{self.args[0]}: no space left on the disk; free some, then run the same command again to go on"


class WorkerKilledError(Transient):
    """A process of a run was killed; facts: which one, what to do."""

    code: ClassVar[str] = "pretraining-worker-killed"

    def __init__(self, process: str, advice: str) -> None:
        super().__init__(process, advice)

    def __str__(self) -> str:
        return (
            f"{self.args[0]} was killed, perhaps because memory ran out; what is finished is kept, {self.args[1]} "
            "and run the same command again"
        )


class SettingRefused(Refused):
    """A setting that cannot be used; facts: the option, what is wrong with it."""

    code: ClassVar[str] = "pretraining-setting"

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(option, problem)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


class RunRefused(Refused):
    """A run's folder cannot be used; facts: its name, what is wrong with it."""

    code: ClassVar[str] = "pretraining-run"

    def __init__(self, folder: str, problem: str) -> None:
        super().__init__(folder, problem)

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


class SampleFailedError(Refused):
    """No sample could be made of a volume; facts: its ID, why, where in the program."""

    code: ClassVar[str] = "pretraining-sample"

    def __init__(self, volume_id: str, reason: str, trace: str) -> None:
        super().__init__(volume_id, reason, trace)

    def __str__(self) -> str:
        return (
            f"volume {self.args[0]}: {self.args[1]}; take it out of the dataset, or remove its folder in the prepared "
            "volumes to have it prepared again; the last checkpoint can be used"
        )


class LossNotFiniteError(Refused):
    """The loss is no finite number; facts: the step."""

    code: ClassVar[str] = "pretraining-loss"

    def __init__(self, step: int) -> None:
        super().__init__(step)

    def __str__(self) -> str:
        return (
            f"the loss is no finite number after step {self.args[0]}; the checkpoint before it is kept; "
            "try --precision fp32 or a lower --learning-rate, in a new folder"
        )


class StoppedError(Transient):
    """A signal stopped a run, which is saved; facts: steps done, steps of the run."""

    code: ClassVar[str] = "pretraining-stopped"

    def __init__(self, step: int, n_steps: int) -> None:
        super().__init__(step, n_steps)

    def __str__(self) -> str:
        return f"stopped after {self.args[0]} of {self.args[1]} steps, which are saved; run the same command to resume"


class MemoryShortError(Transient):
    """There is not enough memory to train; facts: the kind of device."""

    code: ClassVar[str] = "pretraining-memory"

    def __init__(self, device: str) -> None:
        super().__init__(device)

    def __str__(self) -> str:
        place = "the GPU" if self.args[0] == "cuda" else "this machine"
        return (
            f"{place} has too little memory for such steps; use a smaller --batch or --patch in a new folder, or "
            "the same command where there is more"
        )
