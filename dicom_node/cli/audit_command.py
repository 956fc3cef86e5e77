"""The command ``audit``: who did what, when."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from dicom_node.cli.options import ConfigOption, JsonOption, LimitOption, open_existing_store, read_settings
from dicom_node.cli.tables import write_json, write_table


def audit(
    config: ConfigOption = None,
    study: Annotated[
        str | None, typer.Option("--study", metavar="UID", help="Only what is about this Study Instance UID.")
    ] = None,
    limit: LimitOption = 100,
    as_json: JsonOption = False,
) -> None:
    """Show the audit trail, the latest entry first: exports, withdrawals, samples that were seen, deletions.

    Entries are only ever added. Names are those that people typed or that a process has; the node does not check them.

    \b
    Example:
      dicom-node audit -c config/node.yaml --study 1.2.840.1
    """
    with open_existing_store(read_settings(config)) as store:
        rows = store.audit.list(limit=limit) if study is None else store.audit.about([study], limit=limit)
    if as_json:
        write_json(rows)
        return
    write_table(
        ("WHEN", "WHO", "WHAT", "ABOUT", "DETAIL"),
        [
            (row.occurred_at, row.actor, row.action, row.subject, json.dumps(dict(row.detail), ensure_ascii=False))
            for row in rows
        ],
        when_empty="no entries",
    )
