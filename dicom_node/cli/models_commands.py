"""``models``: which models the node uses, whether a folder can be one, and how to make it one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.options import ConfigOption, JsonOption, read_settings
from dicom_node.cli.tables import write_json, write_table

models_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, add and verify models: nnU-Net trained-model folders with a model.yaml.",
)


@models_app.command("list")
def list_models(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the two models that the node uses with these settings.

    \b
    Example:
      dicom-node models list -c config/node.yaml
    """
    from dicom_node import app

    specs = app.read_models(read_settings(config))
    if as_json:
        write_json(
            [
                {
                    "role": spec.identity.role,
                    "name": spec.identity.name,
                    "version": spec.identity.version,
                    "sha256": spec.identity.sha256,
                    "labels": dict(spec.labels),
                    "folder": str(spec.folder),
                }
                for spec in specs
            ]
        )
        return
    write_table(
        ("ROLE", "NAME", "VERSION", "SHA-256", "LABELS", "FOLDER"),
        [
            (
                spec.identity.role,
                spec.identity.name,
                spec.identity.version,
                spec.identity.sha256[:12],
                ", ".join(f"{label}={number}" for label, number in spec.labels.items()),
                spec.folder,
            )
            for spec in specs
        ],
        when_empty="no models",
    )
