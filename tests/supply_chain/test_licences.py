"""Nothing is shipped under a licence that nobody looked at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supply_chain.licences import LicenceError, Policy, licence_of, problems, shipped, table
from supply_chain.lock import LockedPackage

POLICY = Policy.read()
LICENCES = {package.name: licence_of(package, POLICY) for package in shipped()}


def test_every_locked_package_has_a_licence_that_is_allowed_or_a_named_exception() -> None:
    assert list(problems(LICENCES, POLICY)) == []
    assert LICENCES["psycopg"] == "LGPL-3.0-only"
    assert LICENCES["pydicom"] == "MIT"


def test_another_licence_is_refused_by_name() -> None:
    strict = replace(POLICY, exceptions={})
    found = list(problems(LICENCES | {"numpy": "BSD-3-Clause AND GPL-3.0-only"}, strict))
    assert [problem.split(":")[0] for problem in found] == ["certifi", "numpy", "psycopg", "psycopg-binary"]
    assert "GPL-3.0-only is not allowed" in found[1]


def test_an_exception_is_for_one_licence_and_for_what_is_shipped() -> None:
    found = list(problems({**LICENCES, "psycopg": "AGPL-3.0-only"}, POLICY))
    assert found == ["psycopg: the exception is for LGPL-3.0-only, its licence is AGPL-3.0-only"]
    rest = {name: licence for name, licence in LICENCES.items() if name != "certifi"}
    assert list(problems(rest, POLICY)) == ["certifi: an exception for a package that is not shipped"]


@pytest.mark.parametrize(
    ("package", "says"),
    [
        (LockedPackage("numpy", "0.1", "", ()), "numpy 0.1 is locked, "),
        (LockedPackage("not-a-package-of-ours", "1", "", ()), "not-a-package-of-ours is locked and not installed"),
    ],
)
def test_what_is_not_installed_as_locked_has_no_licence(package: LockedPackage, says: str) -> None:
    with pytest.raises(LicenceError, match=says):
        licence_of(package, POLICY)


def test_without_what_was_read_off_its_text_a_package_has_no_licence() -> None:
    (jinja,) = (package for package in shipped() if package.name == "sympy")
    with pytest.raises(LicenceError, match="sympy: its metadata name no licence"):
        licence_of(jinja, replace(POLICY, stated={}))


def test_the_table_says_why_an_exception_is_there() -> None:
    text = table(shipped(), LICENCES, POLICY)
    assert "| psycopg | 3" in text
    assert "| LGPL-3.0-only | used unchanged as a library" in text
