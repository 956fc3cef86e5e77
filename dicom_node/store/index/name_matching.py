"""Match person names: in any component group, by wildcards, or fuzzily (PS3.4 C.2.2.2.1.1, PS3.18 8.3.4.2).

Fuzzy matching knows no language. Each word of the query must begin a word of the name, in any order and group, where
vowels may be other vowels, and letters have accents or not: ``mueller jorg`` finds ``Müller^Jörg`` and ``Miller^Jarg``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from dicom_node.store.index.filing import name_key
from dicom_node.store.index.like import ESCAPE, like_pattern
from dicom_node.store.schema import studies

Condition = sa.ColumnElement[bool]
SELECTIVE_CHARACTERS: Final = 3  # of a name, from which on it is looked up before studies are
MAX_WORDS: Final = 8
_SPLIT: Final = re.compile(r"[\s^=,*?]+")
_TWO_FOR_ONE: Final = re.compile("ae|oe|ue|ss|ß")
_OFTEN_CHANGED: Final = frozenset("aeiouyäöüåøæ")


def patient_name(value: str) -> Condition:
    """Match a patient's name without regard to case, in any of its three component groups.

    Of a name with a selective beginning the studies are found by two indices; joined by OR, all studies would be looked
    at. Of any other one most studies may match, so they are looked at in the order of the answer until it is full.
    """
    key = name_key(value)
    beginning = re.split(r"[*?]", key)[0]
    is_selective = len(beginning) >= SELECTIVE_CHARACTERS
    named = studies.alias("studies_of_name") if is_selective else studies
    first, groups = named.c.patient_name_key, named.c.patient_name_groups_key
    pattern = like_pattern(key)
    if beginning != key:
        in_first = sa.and_(BeginsWith(first, beginning), first.like(pattern, escape=ESCAPE))
    else:
        in_first = first == key
    # "=ideographic=phonetic": a group ends with the text or before the next one, empty components at its end left out.
    ends = ("", "=%", "^%") if not key.endswith("*") else ("",)
    in_others = sa.or_(*(groups.like(f"%={pattern}{end}", escape=ESCAPE) for end in ends))
    if key and beginning == key:
        in_others = sa.or_(*(groups.like(f"%={pattern}{end}", escape=ESCAPE) for end in ("", "=%", "^", "^=%")))
    if not is_selective:
        return sa.or_(in_first, in_others)
    uid = sa.select(named.c.study_instance_uid)
    return studies.c.study_instance_uid.in_(sa.union_all(uid.where(in_first), uid.where(groups > "", in_others)))


def fuzzy_patient_name(value: str) -> Condition:
    """Match a patient's name word by word, with other vowels and accents."""
    return _fuzzy(value, studies.c.patient_name_key, studies.c.patient_name_groups_key)


def fuzzy_referring_physician(value: str) -> Condition:
    """Match the referring physician's name word by word, with other vowels and accents."""
    return _fuzzy(value, studies.c.referring_physician_name_key)


def _fuzzy(value: str, *columns: sa.Column[str]) -> Condition:
    words = [word for word in _SPLIT.split(value.casefold()) if word][:MAX_WORDS]
    return sa.and_(sa.true(), *(_has_word(word, columns) for word in words))


def _has_word(word: str, columns: tuple[sa.Column[str], ...]) -> Condition:
    patterns = [f"{before}{fuzzy}%" for fuzzy in _fuzzy_patterns(word) for before in ("", "%^", "%=", "% ", "%-")]
    return sa.or_(*(column.like(pattern, escape=ESCAPE) for column in columns for pattern in patterns))


def _fuzzy_patterns(word: str) -> Iterator[str]:
    """Yield patterns for LIKE: with any character for a vowel, and with one or two for ``ue`` and the like."""
    yield _with_any_vowel(word)
    if _TWO_FOR_ONE.search(word):
        yield "".join(
            "_" if _TWO_FOR_ONE.fullmatch(part) else _with_any_vowel(part)
            for part in re.split(f"({_TWO_FOR_ONE.pattern})", word)
        )


def _with_any_vowel(text: str) -> str:
    letters = []
    for letter in unicodedata.normalize("NFC", text):
        plain = unicodedata.normalize("NFD", letter)[0]
        is_changed = plain in _OFTEN_CHANGED or letter in _OFTEN_CHANGED or plain != letter
        letters.append("_" if is_changed else like_pattern(letter))
    return "".join(letters)


def begins_with(column: sa.Column[str], beginning: str) -> Condition:
    """Return a condition on the beginning of a text; where the database allows, an index finds it."""
    pattern = like_pattern(re.sub(r"[*?]", "", beginning)) + "%"
    return sa.and_(BeginsWith(column, beginning), column.like(pattern, escape=ESCAPE))


class BeginsWith(sa.sql.functions.FunctionElement[bool]):
    """A range of texts that SQLite finds in an index, where it does not use one for LIKE; true on other databases.

    Texts are compared by their bytes on SQLite only, and the LIKE that comes with it decides on all of them.
    """

    inherit_cache = True
    type = sa.Boolean()

    def __init__(self, column: sa.ColumnElement[str], prefix: str) -> None:
        super().__init__(column, prefix, f"{prefix}\U0010ffff")


@compiles(BeginsWith)
def _as_truth(element: BeginsWith, compiler: SQLCompiler, **_: Any) -> str:  # noqa: ARG001, ANN401
    return "1 = 1"


@compiles(BeginsWith, "sqlite")
def _as_range(element: BeginsWith, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    column, begin, end = (compiler.process(clause, **options) for clause in element.clauses)
    return f"({column} >= {begin} AND {column} < {end})"
