"""Read checked values from JSON and YAML; a wrong value raises an error that names the file and the key."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from inference.nnunet.errors import ModelFileMissingError, ModelKeyError

# PyYAML's own errors, and what else it raises on hostile text: tags with unsuitable values, deep nesting.
YAML_ERRORS = (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
MAX_FILE_BYTES = 64 * 2**20  # a plans.json has a few kilobytes


@dataclass(frozen=True, slots=True)
class Node:
    """One value of a document, with its file and key for error messages."""

    file: str
    key: str  # path of keys joined by dots; empty for the whole document
    value: Any

    def wrong(self, expected: str) -> ModelKeyError:
        """Return an error that names the value found and what was expected."""
        return ModelKeyError(self.file, self.key, self.shown, expected)

    @property
    def shown(self) -> str:
        """The value in a few words; lists and mappings by length only, because YAML aliases can make them endless."""
        kind = type(self.value).__name__
        if self.value is None:
            return "nothing"
        if isinstance(self.value, list | tuple | dict | set):
            return f"{kind} of {len(self.value)}"
        try:
            return f"{kind} {str(self.value)[:80]!r}"
        except ValueError:  # Python refuses to convert an integer of more than 4300 digits to text
            return f"{kind} of very many digits"

    def __getitem__(self, key: str | int) -> Node:
        """Return the entry under ``key``; raise ModelKeyError if it is absent."""
        node = self.get(key)
        if node is None:
            raise ModelKeyError(self.file, self._below(key), "nothing", "a value")
        return node

    def get(self, key: str | int) -> Node | None:
        """Return the entry under ``key``, None if it is absent."""
        if isinstance(key, int):
            items = self.items()
            return items[key] if key < len(items) else None
        mapping = self.mapping()
        return Node(self.file, self._below(key), mapping[key]) if key in mapping else None

    def mapping(self) -> Mapping[str, Any]:
        """Return the value as a mapping with text keys."""
        if not isinstance(self.value, dict) or not all(isinstance(key, str) for key in self.value):
            raise self.wrong("a mapping")
        return self.value

    def nodes(self) -> Iterator[tuple[str, Node]]:
        """Yield all entries of a mapping, in order."""
        for key in self.mapping():
            yield key, self[key]

    def items(self, length: int | None = None) -> list[Node]:
        """Return the entries of a list, which must have ``length`` if it is given."""
        if not isinstance(self.value, list | tuple) or (length is not None and len(self.value) != length):
            raise self.wrong("a list" if length is None else f"a list of {length}")
        return [Node(self.file, self._below(index), item) for index, item in enumerate(self.value)]

    def text(self, *choices: str) -> str:
        """Return the value as text, which must be one of ``choices`` if any are given."""
        if not isinstance(self.value, str) or (choices and self.value not in choices):
            raise self.wrong(f"one of {', '.join(choices)}" if choices else "text")
        return self.value

    def integer(self, low: int, high: int) -> int:
        """Return the value as an integer from ``low`` to ``high``."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not low <= self.value <= high:
            raise self.wrong(f"an integer from {low} to {high}")
        return self.value

    def number(self, *, above: float | None = None) -> float:
        """Return the value as a finite number, greater than ``above`` if it is given."""
        found = self.value
        if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) < float("inf"):
            raise self.wrong("a number")
        if above is not None and not found > above:
            raise self.wrong(f"a number above {above:g}")
        try:
            return float(found)
        except OverflowError as error:
            raise self.wrong("a number that fits into 64 bits") from error

    def flag(self) -> bool:
        """Return the value as true or false."""
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def _below(self, key: str | int) -> str:
        return f"{self.key}.{key}" if self.key else str(key)


def read_json(path: Path, *, needed_for: str) -> Node:
    """Parse a JSON file; ``needed_for`` completes the error message if it is missing."""
    try:
        return Node(str(path), "", json.loads(_text(path, needed_for)))
    except RecursionError as error:
        raise ModelKeyError(str(path), "(file)", "JSON nested too deeply", "a JSON object") from error
    except ValueError as error:
        raise ModelKeyError(str(path), "(file)", f"no JSON ({error})", "a JSON object") from error


def read_yaml(path: Path, *, needed_for: str) -> Node:
    """Parse a YAML file with plain values only; ``needed_for`` completes the error message if it is missing."""
    try:
        return Node(str(path), "", yaml.safe_load(_text(path, needed_for)))
    except YAML_ERRORS as error:
        raise ModelKeyError(str(path), "(file)", f"no YAML ({type(error).__name__})", "a YAML mapping") from error


def check_no_link(folder: Path, file: Path) -> None:
    """Raise ModelKeyError if ``file`` is reached through a symbolic link in ``folder``, which could lead anywhere."""
    for part in (file, *file.parents):
        if part == folder:
            return
        if part.is_symlink():
            expected = "a file or folder of its own; copy the files into the model's folder"
            raise ModelKeyError(str(part), "(file)", "a symbolic link", expected)


def _text(path: Path, needed_for: str) -> str:
    """Return the content of a small UTF-8 text file."""
    if not path.is_file():
        raise ModelFileMissingError(str(path), needed_for)
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ModelKeyError(str(path), "(file)", f"{size} bytes", f"at most {MAX_FILE_BYTES}")
    return path.read_text(encoding="utf-8")
