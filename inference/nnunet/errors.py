"""Errors of a trained-model folder, and of running out of memory while a model is used."""

from __future__ import annotations

from typing import ClassVar

from inference.errors import ModelError, Transient


class ModelFileMissingError(ModelError):
    """A file that the model needs is missing."""

    code: ClassVar[str] = "model-file-missing"

    def __init__(self, file: str, needed_for: str) -> None:
        super().__init__(file, needed_for)

    def __str__(self) -> str:
        file, needed_for = self.args
        return f"model file {file} is missing, needed for {needed_for}; copy the whole trained-model folder"


class ModelKeyError(ModelError):
    """A key of plans.json, dataset.json or model.yaml is missing or has a value that cannot be used."""

    code: ClassVar[str] = "model-key"

    def __init__(self, file: str, key: str, found: str, expected: str) -> None:
        super().__init__(file, key, found, expected)

    def __str__(self) -> str:
        file, key, found, expected = self.args
        return f"model file {file}, key {key}: found {found}, expected {expected}"


class UnsafeCheckpointError(ModelError):
    """A checkpoint asks for code that weights do not need; none of it was run."""

    code: ClassVar[str] = "model-unsafe-checkpoint"

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(file, reason)

    def __str__(self) -> str:
        file, reason = self.args
        return (
            f"checkpoint {file} is not a plain file of weights ({reason}); nothing was run, "
            "ask its author for an export of nnU-Net v2 without custom classes"
        )


class CheckpointError(ModelError):
    """A checkpoint cannot be read, or its weights do not fit the architecture that plans.json describes."""

    code: ClassVar[str] = "model-checkpoint"

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(file, reason)

    def __str__(self) -> str:
        file, reason = self.args
        return f"checkpoint {file}: {reason}; use the checkpoint and the plans.json of one training"


class UnsupportedModelError(ModelError):
    """The model is valid, but of a kind that is not supported."""

    code: ClassVar[str] = "model-unsupported"

    def __init__(self, file: str, what: str, supported: str) -> None:
        super().__init__(file, what, supported)

    def __str__(self) -> str:
        file, what, supported = self.args
        return f"model file {file}: {what} is not supported; supported is {supported}"


class ChecksumMismatchError(ModelError):
    """The checksum of a model file differs from the one in model.yaml."""

    code: ClassVar[str] = "model-checksum"

    def __init__(self, file: str, found: str, expected: str) -> None:
        super().__init__(file, found, expected)

    def __str__(self) -> str:
        file, found, expected = self.args
        return f"model file {file}: SHA-256 is {found}, model.yaml says {expected}; copy the model again"


class ModelArchiveError(ModelError):
    """A zip archive of a model is damaged or contains an entry that does not belong in a model."""

    code: ClassVar[str] = "model-archive"

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(file, reason)

    def __str__(self) -> str:
        file, reason = self.args
        return f"model archive {file}: {reason}; nothing was added"


class ResourcesExhaustedError(Transient):
    """Memory ran out even with the smallest batch on the CPU."""

    code: ClassVar[str] = "out-of-memory"

    def __init__(self, stage: str, shape: tuple[int, ...]) -> None:
        super().__init__(stage, shape)

    def __str__(self) -> str:
        stage, shape = self.args
        size = " x ".join(map(str, shape))
        return f"memory ran out at {stage} of {size} voxels; tried again later, give the worker more memory"
