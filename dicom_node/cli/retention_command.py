"""The command ``retention``."""

from __future__ import annotations

from typing import Annotated

import typer

from dicom_node.cli.options import ConfigOption, JsonOption, open_existing_store, read_settings
from dicom_node.cli.tables import write_fields, write_json, write_table


def retention(
    config: ConfigOption = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, metavar="N", help="Show at most this many, those that go first in front.")
    ] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show which sources would be deleted now, because of what, and why the others stay; delete nothing.

    Sources are the received instances of a series. The node itself deletes them, by the settings under `retention`.

    \b
    Examples:
      dicom-node retention -c config/node.yaml
      dicom-node retention -c config/node.yaml --json
    """
    from dicom_node.pipeline.retention import plan_deletions
    from dicom_node.pipeline.schedule import committing_peers

    settings = read_settings(config)
    with open_existing_store(settings) as store:
        free_bytes, free_object_bytes = store.objects.free_bytes(), store.objects.free_object_bytes()
        sources = store.retention.survey(committing_peers(settings))
        now = store.now()
    planned = plan_deletions(sources, settings.retention, now=now, free_bytes=free_object_bytes)
    going = [one for one in planned if one.because is not None]
    counts = {
        "n_series": len(planned),
        "n_bytes": sum(one.source.n_dataset_bytes for one in planned),
        "n_series_to_delete": len(going),
        "n_bytes_to_delete": sum(one.source.n_dataset_bytes for one in going),
        "free_bytes": free_bytes,
    }
    shown = sorted(planned, key=lambda one: one.because is None)[:limit]
    if as_json:
        series = [
            {
                "series_instance_uid": one.source.series_instance_uid,
                "study_instance_uid": one.source.study_instance_uid,
                "closed_at": one.source.completed_at,
                "n_instances": one.source.n_instances,
                "n_bytes": one.source.n_dataset_bytes,
                "goes_because": one.because,
                "stays_because": one.stays or None,
            }
            for one in shown
        ]
        write_json({**counts, "series": series})
        return
    write_fields(
        {
            "sources": f"{counts['n_series']} series, {_gb(counts['n_bytes'])}",
            "to be deleted": f"{counts['n_series_to_delete']} series, {_gb(counts['n_bytes_to_delete'])}",
            "free on disk": _gb(free_bytes),
        }
    )
    rows = [
        (
            one.source.series_instance_uid,
            one.source.completed_at,
            one.source.n_instances,
            _gb(one.source.n_dataset_bytes),
            one.because or "stays",
            one.stays,
        )
        for one in shown
    ]
    write_table(("SERIES", "CLOSED AT", "INSTANCES", "SIZE", "GOES", "WHY NOT"), rows, when_empty="no sources")
    if len(planned) > len(shown):
        typer.echo(f"{len(planned) - len(shown)} more; --limit shows them")


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.3f} GB"
