"""Bill of materials of the default image in CycloneDX 1.6: the node, its locked packages, and the models in it.

``python -m supply_chain.sbom > node.cdx.json``. The same lock and models give the same bytes; with
``SOURCE_DATE_EPOCH`` in the environment the document has that time. The environment it runs in must hold the locked
packages, from whose metadata the licences and dependencies come.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import requires

import yaml
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseAcknowledgement, LicenseExpression
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.requirements import Requirement

from dicom_node import __version__
from inference.models import MODEL_FILE, ROLES, ModelSpec, reference_model
from supply_chain.licences import LicenceError, Policy, licence_of, shipped
from supply_chain.lock import EXTRA, ROOT, LockedPackage

SERIAL_NUMBERS = uuid.UUID("6a0c8b0e-6f0c-5d0f-9f60-3b8c0a4d7f11")  # namespace of our own


def bill_of_materials(packages: Iterable[LockedPackage]) -> Bom:
    """Return the bill of materials of the node with these packages and the reference models."""
    policy = Policy.read()
    node = Component(
        name="dicom-node", version=__version__, type=ComponentType.APPLICATION, bom_ref="dicom-node",
        licenses=[_licence("Apache-2.0")], purl=PackageURL("pypi", None, "dicom-node", __version__),
    )  # fmt: skip
    libraries = {package.name: _library(package, licence_of(package, policy)) for package in packages}
    models = [_model(reference_model(role)) for role in ROLES]
    bom = Bom(components=[*libraries.values(), *models])
    bom.metadata.component = node
    bom.metadata.timestamp = _timestamp()
    bom.register_dependency(node, [*(libraries[name] for name in _direct(libraries)), *models])
    for name, library in libraries.items():
        bom.register_dependency(library, [libraries[each] for each in _needed(requires(name), libraries, set())])
    bom.serial_number = uuid.uuid5(SERIAL_NUMBERS, "\n".join(sorted(_line(each) for each in (node, *bom.components))))
    return bom


def as_json(bom: Bom) -> str:
    """Return the document in CycloneDX 1.6."""
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2) + "\n"


def _library(package: LockedPackage, licence: str) -> Component:
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{package.name}=={package.version}",
        purl=PackageURL("pypi", None, package.name, package.version),
        licenses=[_licence(licence)],
        # One per file that the lock allows (a wheel for each platform, the source); which one depends on the machine.
        properties=[Property(name="dicom-node:lock:hash", value=each) for each in package.hashes],
    )


def _model(spec: ModelSpec) -> Component:
    """Return a model with its files; the digest of the whole is the one that results carry."""
    identity = spec.identity
    licence = yaml.safe_load((spec.folder / MODEL_FILE).read_text(encoding="utf-8"))["licence"]
    files = [
        Component(name=name, type=ComponentType.FILE, bom_ref=f"{identity.name}/{name}",
                  hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)])
        for name, digest in spec.sha256.items()
    ]  # fmt: skip
    return Component(
        name=identity.name, version=identity.version, type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"{identity.name}=={identity.version}", licenses=[_licence(licence)], components=files,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=identity.sha256)],
    )  # fmt: skip


def _licence(expression: str) -> LicenseExpression:
    return LicenseExpression(expression, acknowledgement=LicenseAcknowledgement.DECLARED)


def _direct(libraries: Mapping[str, Component]) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"]]
    for requirement in map(Requirement, extras[EXTRA]):  # names other extras of the project itself
        wanted += [line for extra in requirement.extras for line in extras[extra]]
    return _needed(wanted, libraries, set())


def _needed(requirements: Iterable[str] | None, libraries: Mapping[str, Component], extras: set[str]) -> set[str]:
    """Return the names among ``libraries`` that these requirements ask for in this environment."""
    found = set()
    for requirement in map(Requirement, requirements or ()):
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        applies = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)
        )
        if applies and name in libraries:
            found.add(name)
            found |= _needed(requires(name), libraries, requirement.extras) if requirement.extras else set()
    return found


def _line(component: Component) -> str:
    hashes = sorted([each.value or "" for each in component.properties] + [each.content for each in component.hashes])
    return f"{component.name} {component.version} {' '.join(hashes)}"


def _timestamp() -> datetime:
    """Return the time in SOURCE_DATE_EPOCH, or the beginning of time: the same input gives the same bytes."""
    return datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), tz=UTC)


if __name__ == "__main__":
    try:
        sys.stdout.write(as_json(bill_of_materials(shipped())))
    except LicenceError as error:
        sys.exit(str(error))
