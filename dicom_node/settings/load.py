"""Load settings: a YAML file, overridden by environment variables, validated as a whole.

An environment variable ``DICOM_NODE__WEB__PORT=9090`` sets the key ``web.port``; values are read as YAML, so that
numbers, booleans and lists work. Relative paths in the file are relative to the file's folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dicom_node.errors import Refused
from dicom_node.settings.model import Settings
from dicom_node.settings.peers import DicomwebPeer, DimsePeer
from dicom_node.settings.targets import OrthancTarget, WebhookTarget

ENVIRONMENT_PREFIX = "DICOM_NODE__"
_PASSWORD = re.compile(r"//[^/\s]*@")  # with its user, in a URL
_TLS_FILES = ("certificate_file", "key_file", "ca_file")
_PATH_KEYS = (
    ("node", "data_dir"),
    ("models", "foreground"),
    ("models", "anonymized"),
    ("rules",),
    ("objects", "ca_file"),
    ("oidc", "ca_file"),
    *(("audit", key) for key in ("syslog_ca_file", "syslog_certificate", "syslog_key")),
    *(("dimse", "tls", key) for key in _TLS_FILES),
    *(("work", "dask_tls", key) for key in _TLS_FILES),
)

_KINDS_IN_LISTS: Mapping[str, Mapping[str, type[BaseModel]]] = {
    "peers": {"dimse": DimsePeer, "dicomweb": DicomwebPeer},
    "notify": {"orthanc": OrthancTarget, "webhook": WebhookTarget},
}


class SettingsError(Refused):
    """The settings cannot be used; nothing is started."""

    code: ClassVar[str] = "settings"

    def __init__(self, origin: str, problems: tuple[str, ...]) -> None:
        super().__init__(origin, problems)

    def __str__(self) -> str:
        origin, problems = self.args
        return "\n".join(f"{origin}: {problem}" for problem in problems)


def load_settings(path: Path | None, env: Mapping[str, str]) -> Settings:
    """Load the settings of a node.

    Parameters
    ----------
    path
        YAML file; with None, every key has its default.
    env
        Environment; variables that begin with ``DICOM_NODE__`` override the file.

    Raises
    ------
    SettingsError
        The file is missing or not YAML, a key is unknown, or a value is not allowed; every problem names file and
        key.
    """
    origin = str(path) if path is not None else "settings"
    tree = _read_tree(path) if path is not None else {}
    if path is not None:
        _anchor_paths(tree, path.absolute().parent)
    for name, text in sorted(env.items()):
        if name.startswith(ENVIRONMENT_PREFIX):
            _overlay(tree, name, text)
    _share_tls_files(tree)
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(origin, tuple(_problem(item) for item in error.errors())) from error


def _read_tree(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(str(path), ("no such file; pass another path or leave -c out for the defaults",)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(str(path), (f"cannot be read: {error}",)) from error
    except yaml.YAMLError as error:
        raise SettingsError(str(path), (f"is not valid YAML: {' '.join(str(error).split())}",)) from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SettingsError(str(path), (f"must hold keys and values, but holds a {type(tree).__name__}",))
    return tree


def _anchor_paths(tree: dict[str, Any], folder: Path) -> None:
    """Resolve relative paths against the file's folder, not against the working directory."""
    for *parents, key in _PATH_KEYS:
        section: Any = tree
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        if isinstance(section, dict) and isinstance(section.get(key), str):
            section[key] = _anchored(section[key], folder)
    for key in _KINDS_IN_LISTS:
        entries = tree.get(key)
        for entry in entries if isinstance(entries, list) else ():
            for section in (entry, entry.get("tls")) if isinstance(entry, dict) else ():
                for file in _TLS_FILES if isinstance(section, dict) else ():
                    if isinstance(section.get(file), str):
                        section[file] = _anchored(section[file], folder)


def _share_tls_files(tree: dict[str, Any]) -> None:
    """Give peers with TLS the node's own certificate, key and authorities, where they name none."""
    dimse = tree.get("dimse")
    shared = dimse.get("tls") if isinstance(dimse, dict) else None
    peers = tree.get("peers")
    if not isinstance(shared, dict) or not isinstance(peers, list):
        return
    for peer in peers:
        section = peer.get("tls") if isinstance(peer, dict) else None
        if not isinstance(section, dict):
            continue
        if section.get("certificate_file") is None and section.get("key_file") is None:
            section |= {key: shared[key] for key in ("certificate_file", "key_file") if key in shared}
        if section.get("ca_file") is None and "ca_file" in shared:
            section["ca_file"] = shared["ca_file"]


def _anchored(path: str, folder: Path) -> str:
    """Resolve a path against ``folder``; ``..`` is resolved as the file system does, through links as well."""
    anchored = folder / Path(path).expanduser()
    return str(anchored.resolve() if ".." in anchored.parts else anchored)


def _overlay(tree: dict[str, Any], name: str, text: str) -> None:
    keys = [part.lower() for part in name.removeprefix(ENVIRONMENT_PREFIX).split("__")]
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"environment variable {name}", ("its value is not valid YAML",)) from error
    section = tree
    for key in keys[:-1]:
        below = section.setdefault(key, {})
        if not isinstance(below, dict):
            raise SettingsError(f"environment variable {name}", (f"{key!r} is a value, not a section",))
        section = below
    section[keys[-1]] = value


def _problem(item: ErrorDetails) -> str:
    """Format a validation problem as ``key: what is wrong; what is allowed``."""
    kinds = _KINDS_IN_LISTS.get(str(item["loc"][0]), {}) if item["loc"] else {}
    location = [part for part in item["loc"] if part not in kinds]
    key = ".".join(str(part) for part in location)
    if item["type"] == "extra_forbidden":
        return f"{key}: unknown key; known here: {', '.join(_known_keys(location[:-1]))}"
    message = item["msg"].removeprefix("Value error, ")
    shown = _PASSWORD.sub("//***@", repr(item["input"]))
    found = "" if isinstance(item["input"], dict | list) or not key else f" (found {shown})"
    return f"{key}: {message}{found}" if key else message


def _known_keys(location: list[Any]) -> list[str]:
    """Return the keys that are allowed at a location in the tree."""
    models: list[type[BaseModel]] = [Settings]
    for part in location:
        if part in _KINDS_IN_LISTS:
            models = list(_KINDS_IN_LISTS[part].values())
        elif not isinstance(part, int):
            fields = [model.model_fields[part] for model in models if part in model.model_fields]
            models = [model for field in fields for model in _sections(field.annotation)]
    return sorted({name for model in models for name in model.model_fields})


def _sections(annotation: Any) -> list[type[BaseModel]]:  # noqa: ANN401 - whatever a field is annotated with
    """Return the sections in an annotation, which may be optional."""
    found = get_args(annotation) or (annotation,)
    return [each for each in found if isinstance(each, type) and issubclass(each, BaseModel)]
