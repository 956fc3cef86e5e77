"""The commands ``exports``: which studies have left, where to, and which of them should no longer be there."""

from __future__ import annotations

from typing import Annotated

import typer

from dicom_node.cli.options import ConfigOption, JsonOption, open_existing_store, read_settings
from dicom_node.cli.tables import write_json, write_table

exports_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List exported studies, and those that should no longer be where they are.",
)


@exports_app.command("list")
def list_exports(
    config: ConfigOption = None,
    study: Annotated[
        str | None, typer.Option("--study", metavar="UID", help="Only of this Study Instance UID.")
    ] = None,
    withdrawn: Annotated[bool, typer.Option("--withdrawn", help="Only studies that may no longer be used.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List exports, the oldest first: the study, its copy, project, target and state.

    COPY is the Study Instance UID by which those who have the copy know it. Nothing is recalled by a withdrawal: tell
    them.

    \b
    Example:
      dicom-node exports list -c config/node.yaml --withdrawn
    """
    from dicom_node.store import ExportState

    with open_existing_store(read_settings(config)) as store:
        rows = store.exports.list(
            study_instance_uids=None if study is None else [study], state=ExportState.WITHDRAWN if withdrawn else None
        )
    if as_json:
        write_json(rows)
        return
    write_table(
        ("STUDY", "COPY", "PROJECT", "TARGET", "STATE", "PUBLISHED", "WHY"),
        [
            (
                row.study_instance_uid,
                row.copy_study_instance_uid,
                row.project,
                row.target,
                row.state,
                row.published_at,
                row.withdrawn_because,
            )
            for row in rows
        ],
        when_empty="no exports",
    )
