"""What the node installs is what the node imports."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("dicom_node", "inference", "part10", "sr_writer")


def normal(name: str) -> str:
    """Name of a distribution as PyPI compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def imported_distributions() -> set[str]:
    """Distributions that hold a module which a package of the node imports."""
    by_module = packages_distributions()
    found = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                    names = [node.module]
                for module in {name.partition(".")[0] for name in names}:
                    if module not in sys.stdlib_module_names and module not in PACKAGES:
                        found |= {normal(each) for each in by_module.get(module, [module])}
    return found


@pytest.fixture(scope="module")
def declared() -> dict[str, set[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"node": project["dependencies"], **project["optional-dependencies"]}
    return {group: {normal(re.split(r"[<>=\[; ]", line)[0]) for line in lines} for group, lines in groups.items()}


def test_every_dependency_is_imported_by_a_package_of_the_node(declared: dict[str, set[str]]) -> None:
    assert declared["node"] - imported_distributions() == set()
