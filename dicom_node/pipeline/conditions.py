"""Conditions on attributes, as stated in rules.

An attribute may have several values (such as Image Type); a condition holds if one value meets all its requirements.
Values are compared as text, without surrounding spaces and without regard to case. Patterns are DICOM's own wildcards
and not regular expressions, so that no value from a sender takes long to compare.
"""

from __future__ import annotations

import fnmatch
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from dicom_node.store.index.attributes import TAGS

SENDER_KEYWORD = "calling_ae_title"  # a fact that the node records; every other key is an attribute
WITHOUT_TEXT = frozenset({"SQ", "OB", "OB or OW", "OW", "OD", "OF", "OL", "OV", "UN"})  # VRs, PS3.5 table 6.2-1
# Keywords of texts and numbers, among them all of the default rules, for which pydicom need not be loaded.
_KNOWN = frozenset(TAGS) | {"SamplesPerPixel"}


def _checked_keyword(keyword: str) -> str:
    """Return a valid keyword: of an attribute of the standard, or `SENDER_KEYWORD`."""
    if keyword == SENDER_KEYWORD or keyword in _KNOWN:
        return keyword
    from pydicom.datadict import dictionary_VR, keyword_dict  # slow to import, and rarely wanted

    if keyword not in keyword_dict:
        raise ValueError(f"{keyword!r} is no keyword of the standard; write it like SeriesDescription")
    if dictionary_VR(keyword) in WITHOUT_TEXT:
        raise ValueError(f"{keyword} holds no text or number that a rule could compare")
    return keyword


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Keyword = Annotated[str, AfterValidator(_checked_keyword)]
Text = Annotated[str, Field(min_length=1, max_length=256)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_as_list), Field(min_length=1)]


class Condition(BaseModel):
    """Requirements on one attribute, all of which must hold."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    equals: Text | None = None
    is_in: Texts | None = Field(default=None, alias="in")
    contains: Texts | None = None
    matches: Texts | None = None
    exists: bool | None = None
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _asks_something_possible(self) -> Self:
        asked = self.model_fields_set
        if not asked:
            known = ", ".join(field.alias or name for name, field in type(self).model_fields.items())
            raise ValueError(f"asks nothing; write one of {known}")
        if self.exists is False and len(asked) > 1:
            raise ValueError("exists: false stands alone, a value that is absent meets nothing else")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least} is more than at_most {self.at_most}; no value meets both")
        return self

    def holds(self, values: tuple[str, ...]) -> bool:
        """Return whether an attribute with these values meets the condition; no values means absent or empty."""
        if self.exists is False:
            return not values
        return any(self._is_met_by(value.strip()) for value in values)

    def _is_met_by(self, value: str) -> bool:
        folded = value.casefold()
        return (
            (self.equals is None or folded == _folded(self.equals))
            and (self.is_in is None or folded in {_folded(allowed) for allowed in self.is_in})
            and (self.contains is None or any(part.casefold() in folded for part in self.contains))
            and (self.matches is None or any(_matches(folded, pattern) for pattern in self.matches))
            and self._is_in_range(value)
        )

    def _is_in_range(self, value: str) -> bool:
        if self.at_least is None and self.at_most is None:
            return True
        try:
            number = float(value)
        except ValueError:
            return False
        return (self.at_least is None or number >= self.at_least) and (self.at_most is None or number <= self.at_most)


def _folded(text: str) -> str:
    return text.strip().casefold()


def _matches(folded: str, pattern: str) -> bool:
    """Match wildcards as in C-FIND (PS3.4 C.2.2.2.4): ``*`` any characters, ``?`` one; no brackets."""
    return fnmatch.fnmatchcase(folded, _folded(pattern).replace("[", "[[]"))
