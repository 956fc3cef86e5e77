"""Licences of the locked packages, and whether each of them may be shipped.

``python -m supply_chain.licences`` prints a table, and ends with 1 if a licence is unknown or not allowed by
``locks/licences.toml``. The environment it runs in must hold the locked packages (`make install` or `make dev`).
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from license_expression import ExpressionError, get_spdx_licensing

from supply_chain.lock import FOLDER, NODE, TORCH_CPU, LockedPackage, read_lock

POLICY = FOLDER / "licences.toml"
_BY_CLASSIFIER = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: ISC License (ISCL)": "ISC",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
_SPDX = get_spdx_licensing()


class LicenceError(Exception):
    """A licence is unknown, or a package is not installed as it is locked; the message names the package."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What ``locks/licences.toml`` says."""

    allowed: frozenset[str]
    stated: Mapping[str, str]
    exceptions: Mapping[str, Mapping[str, str]]

    @classmethod
    def read(cls, path: Path = POLICY) -> Policy:
        """Return the policy in a file."""
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return cls(frozenset(table["allowed"]), table["stated"], table["exceptions"])


def shipped() -> tuple[LockedPackage, ...]:
    """Return the packages of the default image, by name."""
    return tuple(sorted((*read_lock(NODE), *read_lock(TORCH_CPU)), key=lambda package: package.name))


def licence_of(package: LockedPackage, policy: Policy) -> str:
    """Return the SPDX expression of an installed package; `LicenceError` if its metadata and the policy name none."""
    try:
        found = distribution(package.name)
    except PackageNotFoundError:
        raise LicenceError(f"{package.name} is locked and not installed here; run `make install`") from None
    if found.version.partition("+")[0] != package.version.partition("+")[0]:
        raise LicenceError(f"{package.name} {package.version} is locked, {found.version} is installed; run `make lock`")
    if package.name in policy.stated:
        return policy.stated[package.name]
    metadata = found.metadata
    classifiers = {_BY_CLASSIFIER.get(each) for each in metadata.get_all("Classifier", ())} - {None}
    fields = [text for key in ("License-Expression", "License") for text in metadata.get_all(key, ())]
    for candidate in (*fields, *sorted(map(str, classifiers))):
        if _is_spdx(candidate):
            return str(candidate)
    raise LicenceError(f"{package.name}: its metadata name no licence; read its text and state it in {POLICY.name}")


def problems(licences: Mapping[str, str], policy: Policy) -> Iterator[str]:
    """Yield a sentence for every package whose licence is neither allowed nor a named exception."""
    for name, licence in licences.items():
        if name in policy.exceptions:
            if policy.exceptions[name]["licence"] != licence:
                yield f"{name}: the exception is for {policy.exceptions[name]['licence']}, its licence is {licence}"
        elif not_allowed := sorted(_symbols(licence) - policy.allowed):
            yield f"{name}: {licence}; {', '.join(not_allowed)} is not allowed, and {name} is no named exception"
    yield from (f"{name}: an exception for a package that is not shipped" for name in policy.exceptions
                if name not in licences)  # fmt: skip


def table(packages: Iterable[LockedPackage], licences: Mapping[str, str], policy: Policy) -> str:
    """Return the report as Markdown."""
    rows = ["| package | version | licence | |", "|---|---|---|---|"]
    for package in packages:
        why = policy.exceptions.get(package.name, {}).get("why", "")
        rows.append(f"| {package.name} | {package.version} | {licences[package.name]} | {why} |")
    return "\n".join(rows)


def _is_spdx(text: str) -> bool:
    try:
        return not _SPDX.validate(text).errors
    except ExpressionError:
        return False


def _symbols(licence: str) -> set[str]:
    return {str(symbol.key) for symbol in _SPDX.license_symbols(licence, decompose=True)}


def main() -> int:
    """Print the report; 1 if something may not be shipped."""
    policy, packages = Policy.read(), shipped()
    licences = {package.name: licence_of(package, policy) for package in packages}
    sys.stdout.write(table(packages, licences, policy) + "\n")
    found = list(problems(licences, policy))
    sys.stderr.writelines(f"{problem}\n" for problem in found)
    return 1 if found else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LicenceError as error:
        sys.exit(str(error))
