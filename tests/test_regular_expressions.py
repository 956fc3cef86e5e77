"""No regular expression of the product takes more than linear time, whatever a peer sends."""

from __future__ import annotations

import ast
import re
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("dicom_node", "inference", "sr_writer", "part10", "pretraining")
METHODS = frozenset({"compile", "match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"})
ANCHORED = frozenset({"match", "fullmatch"})
LENGTHS = (26, 20_000)  # an exponential expression shows itself with the first, a quadratic one with the second
LIMIT_S = 0.25  # such an expression needs seconds, a linear one less than a millisecond


@dataclass(frozen=True)
class Expression:
    """A literal pattern, where it stands, and whether it is looked for at every position of a text."""

    where: str
    pattern: str
    flags: int = 0
    is_searched: bool = True

    def slowest_s(self) -> float:
        """Longest time for a long text of one or two repeated characters that occur in the pattern."""
        compiled = re.compile(self.pattern, self.flags)
        run = compiled.findall if self.is_searched else compiled.fullmatch
        letters = sorted(
            {"a", "0", " ", *(letter for letter in self.pattern if not letter.isalnum())} - set("()[]*+?{}")
        )
        pumps = [*letters, *("".join(pair) for pair in product(letters, repeat=2))]
        slowest = 0.0
        for length, pump, end in product(LENGTHS, pumps, ["!", ""]):
            text = (pump * length)[:length] + end
            began_s = time.process_time()
            run(text)
            slowest = max(slowest, time.process_time() - began_s)
            if slowest > LIMIT_S:
                break
        return slowest


def expressions() -> list[Expression]:
    """Every literal pattern that is given to `re`."""
    sources = {path: path.read_text() for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}
    uses = re.findall(r"\b(\w+)\.(\w+)\(", "\n".join(sources.values()))
    found = []
    for path, source in sources.items():
        tree = ast.parse(source)
        names = {
            id(node.value): ast.unparse(node.targets[0]) for node in ast.walk(tree) if isinstance(node, ast.Assign)
        }
        names |= {
            id(node.value): ast.unparse(node.target) for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) not in {f"re.{method}" for method in METHODS}:
                continue
            methods = {ast.unparse(node.func).removeprefix("re.")}
            if methods == {"compile"}:
                methods = {method for name, method in uses if name == names.get(id(node))} & METHODS
            if isinstance(node.args[0], ast.Constant):
                flags = re.DOTALL if "DOTALL" in ast.unparse(node) else 0
                where = f"{path.relative_to(ROOT)}:{node.lineno}"
                found.append(Expression(where, str(node.args[0].value), flags, not methods or not methods <= ANCHORED))
    return found


FOUND = expressions()


def test_the_expressions_of_all_packages_are_found() -> None:
    by_file = {found.where.partition(":")[0]: found for found in FOUND}
    assert len(FOUND) > 15
    assert by_file["dicom_node/store/index/matching.py"].is_searched
    assert not by_file["dicom_node/store/index/headers.py"].is_searched


@pytest.mark.parametrize("pattern", [r'(?:[^,"]|"(?:[^"\\]|\\.)*")+', r"(a+)+;", r"\s+$"])
def test_an_expression_that_goes_back_is_noticed(pattern: str) -> None:
    assert Expression("here", pattern).slowest_s() > LIMIT_S


@pytest.mark.parametrize("expression", FOUND, ids=[found.where for found in FOUND])
def test_an_expression_is_linear(expression: Expression) -> None:
    assert expression.slowest_s() < LIMIT_S, expression
