"""The commands ``studies delete`` and ``patients delete``: for a withdrawn consent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.errors import EXIT_FAILED, fail
from dicom_node.cli.options import ConfigOption, open_existing_store, read_settings
from dicom_node.cli.people import NameOption, ReasonOption, said
from dicom_node.cli.tables import write_table

if TYPE_CHECKING:
    from dicom_node.store import Store

patients_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Delete what the node has of a patient.")

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")]


@patients_app.callback()
def _patients() -> None:
    """Delete what the node has of a patient."""


@patients_app.command("delete")
def delete_patient(
    patient_id: Annotated[str, typer.Argument(metavar="ID", help="Patient ID, as the senders write it.")],
    reason: ReasonOption,
    name: NameOption,
    config: ConfigOption = None,
    dry_run: DryRun = False,
) -> None:
    """Delete every study of a Patient ID for good, also those in which only some instances have it.

    Patient IDs of two hospitals may be the same: look at the list that --dry-run shows first. See `studies delete`.

    \b
    Example:
      dicom-node patients delete 4711 --reason "consent withdrawn" --by "A. Example" --dry-run -c config/node.yaml
    """
    because, person = said(reason, name)
    with open_existing_store(read_settings(config)) as store:
        uids = store.erasure.studies_of(patient_id.strip())
        if not uids:
            fail("no study has this Patient ID; nothing was deleted")
            raise typer.Exit(EXIT_FAILED)
        _delete(store, uids, because, person, is_dry_run=dry_run)


def delete_study(
    study_instance_uid: Annotated[str, typer.Argument(metavar="UID", help="Study Instance UID.")],
    reason: ReasonOption,
    name: NameOption,
    config: ConfigOption = None,
    dry_run: DryRun = False,
) -> None:
    """Delete a study for good: what was received, conflicting contents, results, verdicts, jobs and decisions.

    The audit trail keeps the Study Instance UID, the numbers of objects, who and why; write no names into the reason.
    Exports of the study count as withdrawn and are listed, so that those who have a copy can be told. Results that were
    delivered to a peer stay there. What is sent again is received again.

    \b
    Example:
      dicom-node studies delete 1.2.840.1 --reason "consent withdrawn" --by "A. Example" -c config/node.yaml
    """
    because, person = said(reason, name)
    with open_existing_store(read_settings(config)) as store:
        _delete(store, [study_instance_uid], because, person, is_dry_run=dry_run)


def _delete(store: Store, uids: Sequence[str], reason: str, person: str, *, is_dry_run: bool) -> None:
    for uid in uids:
        if is_dry_run:
            erased = store.erasure.preview(uid)
        else:
            erased = store.erasure.delete(uid, reason=reason, decided_by=person, now=store.now())
        typer.echo(
            f"study {uid}: {erased.n_received} received instances, {erased.n_conflicts} conflicting contents and "
            f"{erased.n_results} results {'would be' if is_dry_run else 'were'} deleted"
        )
    exported = store.exports.list(study_instance_uids=uids)
    if exported:
        typer.echo("\nexported before; tell those who have the copy:")
        write_table(
            ("COPY", "PROJECT", "TARGET", "STATE", "PUBLISHED"),
            [(row.copy_study_instance_uid, row.project, row.target, row.state, row.published_at) for row in exported],
            when_empty="",
        )
