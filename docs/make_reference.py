"""Write docs/reference.md from the code: settings, commands and error codes. Run by ``make reference``."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import typer
from pydantic import BaseModel

import dicom_node
import dicom_node.errors
import inference
import inference.errors
import pretraining
import pretraining.errors
import sr_writer
import sr_writer.errors
from dicom_node.access.roles import Role
from dicom_node.access.table import RIGHTS_OF_ROUTES
from dicom_node.cli import app
from dicom_node.settings import DicomwebPeer, DimsePeer, OrthancTarget, Settings, WebhookTarget

REFERENCE = Path(__file__).with_name("reference.md")
FAMILIES = (
    (dicom_node, dicom_node.errors.Refused, dicom_node.errors.Transient),
    (inference, inference.errors.Refused, inference.errors.Transient),
    (pretraining, pretraining.errors.Refused, pretraining.errors.Transient),
    (sr_writer, sr_writer.errors.Refused, None),
)


def setting_rows(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """One table row per key of a part of the settings."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from setting_rows(field.annotation, f"{key}.")
            continue
        for section in get_args(field.annotation):
            if isinstance(section, type) and issubclass(section, BaseModel) and field.default is None:
                yield f"| `{key}` | `-` | {field.description or ''} |"
                yield from setting_rows(section, f"{key}.")
                break
        else:
            default = "required" if field.is_required() else f"`{_shown(field.default)}`"
            yield f"| `{key}` | {default} | {field.description or ''} |"


def command_rows(command: object, path: str) -> Iterator[str]:
    """One table row per command, groups opened."""
    for name, below in sorted(getattr(command, "commands", {}).items()):
        if getattr(below, "commands", None):
            yield from command_rows(below, f"{path} {name}")
        else:
            yield f"| `{path} {name}` | {_first_line(below.help)} |"


def route_rows() -> Iterator[str]:
    """One table row per route: what it needs, and to which roles it is open."""
    for line, right in RIGHTS_OF_ROUTES.items():
        open_to = ("yes" if role.has(right) else "-" for role in Role)
        yield f"| `{line.replace('* ', 'other ')}` | {right.value} | {' | '.join(open_to)} |"


def error_rows() -> Iterator[str]:
    """One table row per error code, told whether it is tried again."""
    rows: dict[str, str] = {}
    for package, refused, transient in FAMILIES:
        _import_all(package)
        for base, again in ((refused, "no"), (transient, "yes")):
            for leaf in _subclasses(base) if base is not None else ():
                if not leaf.__name__.startswith("_") and "code" in vars(leaf):
                    rows[leaf.code] = (
                        f"| `{leaf.code}` | {_first_line(leaf.__doc__).partition('; facts:')[0]} | {again} |"
                    )
    yield from (rows[code] for code in sorted(rows))


def reference() -> str:
    """The whole page."""
    parts = (
        ("# Reference", "Written by `make reference` from the code; what each page of `docs/` is about stands there."),
        ("## Settings", "| key | default | meaning |\n|---|---|---|", *setting_rows(Settings)),
        ("### A peer of kind `dimse`", "| key | default | meaning |\n|---|---|---|", *setting_rows(DimsePeer)),
        ("### A peer of kind `dicomweb`", "| key | default | meaning |\n|---|---|---|", *setting_rows(DicomwebPeer)),
        ("### A target of kind `orthanc`", "| key | default | meaning |\n|---|---|---|", *setting_rows(OrthancTarget)),
        ("### A target of kind `webhook`", "| key | default | meaning |\n|---|---|---|", *setting_rows(WebhookTarget)),
        (
            "## Commands",
            "| command | what it does |\n|---|---|",
            *command_rows(typer.main.get_command(app), "dicom-node"),
        ),
        (
            "## Routes",
            "Where `web.access` is `tokens` or `oidc`. In braces is what differs from request to request.",
            "",
            f"| route | right | {' | '.join(Role)} |",
            f"|---|---|{'---|' * len(Role)}",
            *route_rows(),
        ),
        ("## Error codes", "| code | meaning | tried again |\n|---|---|---|", *error_rows()),
    )
    return "\n\n".join(f"{title}\n\n" + "\n".join(lines) for title, *lines in parts) + "\n"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "[]" if not value else str(list(value))
    return "-" if value is None else str(value)


def _first_line(text: str | None) -> str:
    return " ".join((text or "").strip().split("\n\n")[0].split())


def _subclasses(base: type[Exception]) -> Iterator[Any]:
    for below in base.__subclasses__():
        yield below
        yield from _subclasses(below)


def _import_all(package: ModuleType) -> None:
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__") and ".migrations." not in module.name:
            importlib.import_module(module.name)


if __name__ == "__main__":
    REFERENCE.write_text(reference(), encoding="utf-8")
    sys.stdout.write(f"{REFERENCE}\n")
