"""The command ``store upgrade``: the index of this version, without starting anything."""

from __future__ import annotations

import typer

from dicom_node.cli.options import ConfigOption, read_settings


def upgrade(config: ConfigOption = None) -> None:
    """Create the index, or bring it to this version, and end.

    Every part of the node does so when it starts, one at a time. For deployments that want it done, or refused, before
    they replace anything. An older version does not open the index afterwards.

    \b
    Example:
      dicom-node store upgrade -c config/node.yaml
    """
    from dicom_node import app

    app.open_store(read_settings(config)).close()
    typer.echo("the index has this version's schema")
