"""The profile: which options of PS3.15 are applied, and what else a de-identified copy keeps."""

from __future__ import annotations

import hashlib
import json
import re
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator
from pydicom.datadict import tag_for_keyword

from dicom_node.export.errors import ProfileError
from dicom_node.export.standard_table import Option

DEFAULT_PROFILE = "default_profile.yaml"
MAX_PROFILE_BYTES = 2**20


class Dates(StrEnum):
    """How dates are treated."""

    MODIFIED = "modified"  # shifted by one offset per patient and project
    REMOVED = "removed"


class StructuredReports(StrEnum):
    """How SR documents are treated."""

    CLEANED = "cleaned"  # text and names replaced, codes and numbers kept
    REFUSED = "refused"


def _keyword(keyword: str) -> str:
    if tag_for_keyword(keyword) is None:
        raise ValueError(f"{keyword!r} is not a keyword of the DICOM dictionary")
    return keyword


def _pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    return pattern


Keyword = Annotated[str, AfterValidator(_keyword)]
Pattern = Annotated[str, AfterValidator(_pattern)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SafePrivateElement(_Model):
    """A private element to keep: its creator, and its element number within the creator's block."""

    creator: str
    group: int
    element: int

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.group % 2 == 0 or not 0 <= self.group <= 0xFFFF or not 0 <= self.element <= 0xFF:
            raise ValueError("group must be odd, element 0x00 to 0xFF")
        return self


class Profile(_Model):
    """Settings of a de-identification; their digest is in every manifest."""

    name: str
    dates: Dates = Dates.MODIFIED
    patient_characteristics: bool = False
    device_identity: bool = False
    institution_identity: bool = False
    structured_reports: StructuredReports = StructuredReports.CLEANED
    image_types: tuple[str, ...] = ("ORIGINAL\\PRIMARY",)
    sop_classes: tuple[str, ...]
    text: dict[Keyword, tuple[Pattern, ...]] = {}
    code_strings: tuple[str, ...] = ()
    safe_private: tuple[SafePrivateElement, ...] = ()

    @property
    def options(self) -> tuple[Option, ...]:
        """Options of PS3.15 E.3 that are applied to every object; structured content is counted per object."""
        chosen = {
            Option.MODIFIED_DATES: self.dates is Dates.MODIFIED,
            Option.PATIENT_CHARACTERISTICS: self.patient_characteristics,
            Option.DEVICE_IDENTITY: self.device_identity,
            Option.INSTITUTION_IDENTITY: self.institution_identity,
        }
        return tuple(option for option, is_chosen in chosen.items() if is_chosen)

    @property
    def digest(self) -> str:
        """SHA-256 of the settings, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def read_profile(path: Path | None) -> Profile:
    """Read a profile from a YAML file; the built-in one if ``path`` is None.

    Raises
    ------
    ProfileError
        It cannot be read, or contains an unknown setting or value.
    """
    where = "that ships" if path is None else path.name
    try:
        if path is None:
            text = (files("dicom_node.export") / DEFAULT_PROFILE).read_text(encoding="utf-8")
        else:
            with path.open("rb") as file:
                text = file.read(MAX_PROFILE_BYTES).decode("utf-8")
        content: Any = yaml.safe_load(text)
    except OSError as error:
        raise ProfileError(where, f"cannot be read ({type(error).__name__})") from error
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ProfileError(where, f"is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise ProfileError(where, "expected a mapping of settings")
    try:
        return Profile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "profile"
        raise ProfileError(where, f"{place}: {first['msg']}") from error
