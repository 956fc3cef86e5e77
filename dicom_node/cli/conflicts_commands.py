"""The commands ``series conflicts``: two contents of one SOP Instance UID, what differs, and which one counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.options import ConfigOption, JsonOption, LimitOption, open_existing_store, read_settings
from dicom_node.cli.people import NameOption, ReasonOption, said
from dicom_node.cli.tables import write_json, write_table
from dicom_node.json_values import plain

if TYPE_CHECKING:
    from dicom_node.store import ConflictRow, Store

MAX_SHOWN = 4

conflicts_app = typer.Typer(
    rich_markup_mode=None,
    help="List two contents of one instance, and choose one.",
)

ConflictIds = Annotated[
    list[int] | None,
    typer.Argument(metavar="ID", help="As `series conflicts` lists them; none with --series or --study."),
]
OfSeries = Annotated[
    str | None, typer.Option("--series", metavar="UID", help="Every open conflict of this Series Instance UID.")
]
OfStudy = Annotated[
    str | None, typer.Option("--study", metavar="UID", help="Every open conflict of this Study Instance UID.")
]


@conflicts_app.callback(invoke_without_command=True)
def list_conflicts(
    context: typer.Context, config: ConfigOption = None, limit: LimitOption = 50, as_json: JsonOption = False
) -> None:
    """List instances that were answered with 0xB000, the latest first: what differs, and the files of both contents.

    DIFFERS names attributes, never their values; the node compares headers and decoded pixels within half a minute.
    Contents that differ in their encoding alone are no conflict, and the node settles them itself. INSTANCE FILE is the
    content that counts, OTHER FILE the other one.

    \b
    Examples:
      dicom-node series conflicts -c config/node.yaml
      dicom-node series conflicts adopt 3 --reason "corrected name" --by "A. Example" -c config/node.yaml
    """
    if context.invoked_subcommand is not None:
        return
    with open_existing_store(read_settings(config)) as store:
        rows = store.series.conflicts(limit=limit)
        differences = [_differences(store, row) for row in rows]
        other = [store.objects.location(row.digest) for row in rows]
        first = [None if row.stored_digest is None else store.objects.location(row.stored_digest) for row in rows]
    if as_json:
        write_json(
            [
                {**plain(row), "differences": names, "instance_file": one, "other_file": second}
                for row, names, second, one in zip(rows, differences, other, first, strict=True)
            ]
        )
        return
    write_table(
        ("ID", "RECEIVED", "INSTANCE", "FROM", "REASON", "DIFFERS", "SETTLED", "OTHER FILE", "INSTANCE FILE"),
        [
            (
                row.id,
                row.received_at,
                row.sop_instance_uid,
                row.calling_ae_title,
                row.reason,
                _shown(names),
                row.choice,
                second,
                one,
            )
            for row, names, second, one in zip(rows, differences, other, first, strict=True)
        ],
        when_empty="no conflicts",
    )


@conflicts_app.command("keep")
def keep_content(
    reason: ReasonOption,
    name: NameOption,
    conflict_ids: ConflictIds = None,
    series: OfSeries = None,
    study: OfStudy = None,
    config: ConfigOption = None,
) -> None:
    """Keep the content that is the instance; the other one no longer counts as doubt.

    Both contents stay on disk until the series is deleted. The study is judged again within half a minute.

    \b
    Example:
      dicom-node series conflicts keep 3 --reason "sent twice by mistake" --by "A. Example" -c config/node.yaml
    """
    because, person = said(reason, name)
    with open_existing_store(read_settings(config)) as store:
        for conflict_id in _chosen(store, conflict_ids, series, study):
            is_new = store.conflicts.keep(conflict_id, reason=because, decided_by=person, now=store.now())
            typer.echo(f"conflict {conflict_id}: " + ("the instance stays what it is" if is_new else "settled before"))


@conflicts_app.command("adopt")
def adopt_content(
    reason: ReasonOption,
    name: NameOption,
    conflict_ids: ConflictIds = None,
    series: OfSeries = None,
    study: OfStudy = None,
    config: ConfigOption = None,
) -> None:
    """Make the other content the instance, so that a correction (a name, a Patient ID) gets through.

    All of them or none. Each series starts over as a new generation: it is processed and judged again, and new results
    replace those of the former content, which stays on disk until the series is deleted. To take it back, adopt again.

    \b
    Examples:
      dicom-node series conflicts adopt 3 --reason "corrected name" --by "A. Example" -c config/node.yaml
      dicom-node series conflicts adopt --study 1.2.840.1 --reason "corrected" --by "A. Example" -c config/node.yaml
    """
    because, person = said(reason, name)
    with open_existing_store(read_settings(config)) as store:
        chosen = _chosen(store, conflict_ids, series, study)
        started = store.conflicts.adopt(chosen, reason=because, decided_by=person, now=store.now())
        typer.echo(f"{len(chosen)} contents adopted")
        for uid in started:
            typer.echo(f"series {uid} starts over as generation {store.series.get(uid).generation}")


def _chosen(store: Store, conflict_ids: list[int] | None, series: str | None, study: str | None) -> tuple[int, ...]:
    """Return the conflicts that the arguments name, in one of three ways."""
    if sum((bool(conflict_ids), series is not None, study is not None)) != 1:
        raise typer.BadParameter("pass either IDs, --series or --study", param_hint="ID")
    if conflict_ids:
        return tuple(dict.fromkeys(conflict_ids))
    found = store.conflicts.open_in(series_instance_uid=series, study_instance_uid=study)
    if not found:
        raise typer.BadParameter("no open conflict there", param_hint="--series or --study")
    return found


def _differences(store: Store, row: ConflictRow) -> tuple[str, ...]:
    """Return what differs; compare now if the scheduler has not yet."""
    from dicom_node.pipeline.likeness import differences_of

    return row.differences if row.differences is not None else differences_of(store, row)


def _shown(names: tuple[str, ...]) -> str:
    if not names:
        return "nothing but the encoding"
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(names[:MAX_SHOWN]) + more
