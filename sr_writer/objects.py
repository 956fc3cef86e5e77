"""Value types of written objects: roles, algorithms, lineage, predecessors and the encoded result."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from pydicom.uid import UID

from part10.file_meta import file_meta
from sr_writer.uids import derive_uid

Role: TypeAlias = Literal["foreground", "anonymized"]
ROLES: Final[tuple[Role, ...]] = ("foreground", "anonymized")

# Equipment that made an object. A PACS that coerces patient or study does not change it, so it identifies our results.
MANUFACTURER: Final = "dicom-node project"
MANUFACTURER_MODEL_NAME: Final = "dicom-node"

# LO in the default repertoire, without the backslash that separates values (PS3.5 6.2).
_LONG_STRING: Final = re.compile(r"[ -\[\]-~]{1,64}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class AlgorithmIdentity:
    """The model that made a mask; ``sha256`` is computed over its files, in lower-case hexadecimal digits."""

    name: str
    version: str
    sha256: str

    def __post_init__(self) -> None:
        for field, text in (("name", self.name), ("version", self.version)):
            if not _LONG_STRING.fullmatch(text):
                raise ValueError(f"algorithm {field} is {text!r}, expected 1 to 64 ASCII characters, no backslash")
        if not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"algorithm sha256 is {self.sha256!r}, expected 64 lower-case hexadecimal digits")


@dataclass(frozen=True, slots=True)
class Lineage:
    """The input and pipeline of a result; two results with equal lineage are the same result."""

    series_instance_uid: str
    generation: int
    stack_number: int
    pipeline_digest: str

    def derive(self, purpose: str, *content: str) -> UID:
        """Return a UID for something that belongs to this stack only."""
        return self.derive_for_series(purpose, str(self.stack_number), *content)

    def tracking_uid(self, role: Role) -> UID:
        """Return the Tracking UID of a region: the same in SEG and SR, and for each generation and pipeline."""
        return derive_uid("tracking", self.series_instance_uid, str(self.stack_number), role)

    def tracking_id(self, role: Role) -> str:
        """Return the Tracking ID that goes with `tracking_uid`."""
        return f"{role}, stack {self.stack_number}"

    def derive_for_series(self, purpose: str, *content: str) -> UID:
        """Return a UID for something that all stacks of the series share."""
        return derive_uid(purpose, self.series_instance_uid, str(self.generation), self.pipeline_digest, *content)


@dataclass(frozen=True, slots=True)
class Predecessor:
    """An earlier result of the same series that an object replaces, because instances or models have changed."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True)
class WrittenObject:
    """An object ready to be stored or sent; ``encoded_dataset`` has no preamble or file meta information."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    encoded_dataset: bytes

    def part10(self) -> bytes:
        """Return the content of a file: preamble, file meta information and dataset (PS3.10 7.1)."""
        meta = file_meta(
            sop_class_uid=self.sop_class_uid,
            sop_instance_uid=self.sop_instance_uid,
            transfer_syntax_uid=self.transfer_syntax_uid,
        )
        return meta + self.encoded_dataset
