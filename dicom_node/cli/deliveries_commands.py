"""The commands ``deliveries``: objects to be sent to peers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.jobs_commands import StateOption
from dicom_node.cli.options import ConfigOption, JsonOption, LimitOption, open_existing_store, read_settings
from dicom_node.cli.people import ByOption, person
from dicom_node.cli.tables import write_json, write_table

if TYPE_CHECKING:
    from dicom_node.store import DeliveryRow, Store

deliveries_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, retry, repeat and cancel deliveries: results and forwarded instances on their way to peers.",
)


class Kind(StrEnum):
    """What a delivery brings: a kind of result, a received instance that is forwarded, or what a C-MOVE asks for."""

    SEG = "seg"
    SR = "sr"
    KOS = "kos"
    SOURCE = "source"
    MOVE = "move"


DeliveryIds = Annotated[
    list[int], typer.Argument(metavar="DELIVERY", help="Numbers of deliveries, as `deliveries list` shows them.")
]

AnyDeliveryIds = Annotated[
    list[int] | None,
    typer.Argument(metavar="[DELIVERY]...", help="Numbers of deliveries, as `deliveries list` shows them."),
]
KindOption = Annotated[Kind | None, typer.Option("--kind", help="With --peer: only this kind.")]


@deliveries_app.command("list")
def list_deliveries(
    config: ConfigOption = None,
    state: StateOption = None,
    peer: Annotated[str | None, typer.Option("--peer", metavar="NAME", help="Only to this peer.")] = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List deliveries, the newest first.

    \b
    Example:
      dicom-node deliveries list -c config/node.yaml --state waiting
    """
    from dicom_node.cli.state_words import job_states

    states = job_states(state)
    with open_existing_store(read_settings(config)) as store:
        deliveries = store.deliveries.list(states=states, peer=peer, limit=limit)
    if as_json:
        write_json(deliveries)
        return
    write_table(
        (
            "DELIVERY",
            "WHAT",
            "JOB",
            "PEER",
            "STATE",
            "COMMITMENT",
            "SERIES AT PEER",
            "ATTEMPTS",
            "TRIED AGAIN AT",
            "SOP INSTANCE UID",
            "WHY",
        ),
        [
            (
                delivery.id,
                _what(delivery),
                delivery.job_id,
                delivery.peer,
                _state(delivery),
                delivery.commitment,
                None if delivery.n_found is None else f"{delivery.n_found} of {delivery.n_sent}",
                delivery.attempt_number,
                delivery.retry_at,
                delivery.sop_instance_uid,
                _why(delivery),
            )
            for delivery in deliveries
        ],
        when_empty="no deliveries",
    )


def _what(delivery: DeliveryRow) -> str:
    if delivery.move_originator is not None:
        return f"move for {delivery.move_originator}"
    return delivery.kind


def _state(delivery: DeliveryRow) -> str:
    return delivery.state if delivery.replaced_by_id is None else f"{delivery.state}, again: {delivery.replaced_by_id}"


def _why(delivery: DeliveryRow) -> str | None:
    if delivery.error_code:
        return f"{delivery.error_code}: {delivery.error_message}"
    return f"commitment: {delivery.commitment_reason}" if delivery.commitment_reason else None


@deliveries_app.command("retry")
def retry_deliveries(
    delivery_ids: AnyDeliveryIds = None,
    config: ConfigOption = None,
    peer: Annotated[str | None, typer.Option("--peer", metavar="NAME", help="Every dead one to this peer.")] = None,
    kind: KindOption = None,
    by: ByOption = None,
) -> None:
    """Queue again: dead, cancelled or waiting deliveries by number, or all dead ones to a peer.

    \b
    Examples:
      dicom-node deliveries retry 5 -c config/node.yaml
      dicom-node deliveries retry --peer pacs -c config/node.yaml
    """
    _check_choice(delivery_ids, peer, kind)
    with open_existing_store(read_settings(config)) as store:
        if peer is not None:
            n_queued = store.deliveries.retry_all(peer, kind=kind)
            _record(store, "delivery-retried", peer, by, {"peer": peer, "kind": kind, "n_deliveries": n_queued})
            typer.echo(f"{n_queued} deliveries to {peer} are queued")
        for delivery_id in delivery_ids or ():
            delivery = store.deliveries.retry(delivery_id)
            detail = {"delivery": delivery.id, "peer": delivery.peer}
            _record(store, "delivery-retried", delivery.series_instance_uid, by, detail)
            typer.echo(f"delivery {delivery.id} to {delivery.peer} is {delivery.state}")


@deliveries_app.command("send-again")
def send_again(
    delivery_ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="DELIVERY", help="Numbers of deliveries, as `deliveries list` shows them."),
    ] = None,
    job: Annotated[int | None, typer.Option("--job", metavar="JOB", help="All results of this job.")] = None,
    series: Annotated[
        str | None, typer.Option("--series", metavar="UID", help="All of this series, and the results made of it.")
    ] = None,
    study: Annotated[str | None, typer.Option("--study", metavar="UID", help="All of this study.")] = None,
    peer: Annotated[str | None, typer.Option("--peer", metavar="NAME", help="Only to this peer.")] = None,
    config: ConfigOption = None,
) -> None:
    """Send again what a peer has accepted, because it was lost or deleted there.

    Each object goes out unchanged, under the same SOP Instance UID, as a new delivery; the audit trail says so.

    \b
    Examples:
      dicom-node deliveries send-again 5 -c config/node.yaml
      dicom-node deliveries send-again --study 1.2.3 --peer pacs -c config/node.yaml
    """
    if not delivery_ids and job is None and series is None and study is None:
        raise typer.BadParameter("name deliveries, or choose them with --job, --series or --study")
    with open_existing_store(read_settings(config)) as store:
        chosen = list(delivery_ids or ())
        if job is not None or series is not None or study is not None:
            found = store.deliveries.sendable_again(
                job_id=job, series_instance_uid=series, study_instance_uid=study, peer=peer
            )
            chosen += [delivery.id for delivery in found if delivery.id not in chosen]
        for delivery_id in chosen:
            again = store.deliveries.send_again(delivery_id, by="command line", now=store.now())
            typer.echo(f"delivery {delivery_id} to {again.peer} is sent again as delivery {again.id}")
        if not chosen:
            typer.echo("nothing that was delivered matches")


@deliveries_app.command("cancel")
def cancel_deliveries(
    delivery_ids: AnyDeliveryIds = None,
    config: ConfigOption = None,
    peer: Annotated[
        str | None, typer.Option("--peer", metavar="NAME", help="Everything that has not reached this peer.")
    ] = None,
    kind: KindOption = None,
    by: ByOption = None,
) -> None:
    """Cancel deliveries that have not reached their peer, dead ones too; the results stay.

    Retention waits for dead deliveries, and no longer for cancelled ones.

    \b
    Examples:
      dicom-node deliveries cancel 5 -c config/node.yaml
      dicom-node deliveries cancel --peer pacs --kind sr -c config/node.yaml
    """
    _check_choice(delivery_ids, peer, kind)
    with open_existing_store(read_settings(config)) as store:
        if peer is not None:
            n_cancelled = store.deliveries.cancel_all(peer, store.now(), kind=kind)
            _record(store, "delivery-cancelled", peer, by, {"peer": peer, "kind": kind, "n_deliveries": n_cancelled})
            typer.echo(f"{n_cancelled} deliveries to {peer} are cancelled")
        for delivery_id in delivery_ids or ():
            delivery = store.deliveries.cancel(delivery_id, store.now())
            detail = {"delivery": delivery.id, "peer": delivery.peer}
            _record(store, "delivery-cancelled", delivery.series_instance_uid, by, detail)
            typer.echo(f"delivery {delivery.id} to {delivery.peer} is {delivery.state}")


def _record(store: Store, action: str, subject: str, by: str | None, detail: Mapping[str, object]) -> None:
    """Add an entry to the audit trail, as the page does."""
    store.audit.record(action, actor=person(by), subject=subject, now=store.now(), detail=detail)


def _check_choice(delivery_ids: Sequence[int] | None, peer: str | None, kind: Kind | None) -> None:
    """Raise a usage error unless deliveries are either named or chosen by their peer."""
    if bool(delivery_ids) == (peer is not None):
        raise typer.BadParameter("say one of the two", param_hint="DELIVERY... or --peer")
    if kind is not None and peer is None:
        raise typer.BadParameter("chooses among the deliveries to a --peer", param_hint="--kind")


@deliveries_app.command("ask-again")
def ask_again(delivery_ids: DeliveryIds, config: ConfigOption = None) -> None:
    """Ask peers again, now, to commit to deliveries (storage commitment).

    \b
    Example:
      dicom-node deliveries ask-again 5 -c config/node.yaml
    """
    with open_existing_store(read_settings(config)) as store:
        for delivery_id in delivery_ids:
            delivery = store.deliveries.get(delivery_id)
            is_asked = store.commitments.ask_again(delivery_id, store.now())
            words = "is asked for commitment again" if is_asked else f"is not asked: commitment {delivery.commitment}"
            typer.echo(f"delivery {delivery.id} to {delivery.peer} {words}")
