"""Options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dicom_node.settings import Settings
    from dicom_node.store import Store

CONFIG_VARIABLE = "DICOM_NODE_CONFIG"

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        envvar=CONFIG_VARIABLE,
        help="Settings file (YAML). Without it every setting has its default.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON for programs instead of a table for people.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Show at most this many, newest first.")]


def read_settings(config: Path | None) -> Settings:
    """Load the settings from the file and the environment, to which files with secrets are added."""
    from dicom_node.settings import add_secrets, load_settings

    add_secrets(os.environ)
    return load_settings(config, os.environ)


def open_existing_store(settings: Settings) -> Store:
    """Open the store of a node that has run before; a command that only reads must not create one."""
    from dicom_node import app
    from dicom_node.cli.no_store import NoStoreError

    if settings.node.database_url is None and not settings.node.data_dir.is_dir():
        raise NoStoreError(settings.node.data_dir)
    return app.open_store(settings)
