"""The commands ``deliveries``: results to be sent to peers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.jobs_commands import StateOption
from dicom_node.cli.options import ConfigOption, JsonOption, LimitOption, open_existing_store, read_settings
from dicom_node.cli.tables import write_json, write_table

if TYPE_CHECKING:
    from dicom_node.store import DeliveryRow

deliveries_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, retry and cancel deliveries: results to be sent to peers.",
)

DeliveryIds = Annotated[
    list[int], typer.Argument(metavar="DELIVERY", help="Numbers of deliveries, as `deliveries list` shows them.")
]


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
        ("DELIVERY", "JOB", "PEER", "STATE", "COMMITMENT", "ATTEMPTS", "TRIED AGAIN AT", "SOP INSTANCE UID", "WHY"),
        [
            (
                delivery.id,
                delivery.job_id,
                delivery.peer,
                delivery.state,
                delivery.commitment,
                delivery.attempt_number,
                delivery.retry_at,
                delivery.sop_instance_uid,
                _why(delivery),
            )
            for delivery in deliveries
        ],
        when_empty="no deliveries",
    )


def _why(delivery: DeliveryRow) -> str | None:
    if delivery.error_code:
        return f"{delivery.error_code}: {delivery.error_message}"
    return f"commitment: {delivery.commitment_reason}" if delivery.commitment_reason else None


@deliveries_app.command("retry")
def retry_deliveries(delivery_ids: DeliveryIds, config: ConfigOption = None) -> None:
    """Queue dead, cancelled or waiting deliveries again.

    \b
    Example:
      dicom-node deliveries retry 5 -c config/node.yaml
    """
    with open_existing_store(read_settings(config)) as store:
        for delivery_id in delivery_ids:
            delivery = store.deliveries.retry(delivery_id)
            typer.echo(f"delivery {delivery.id} to {delivery.peer} is {delivery.state}")


@deliveries_app.command("cancel")
def cancel_deliveries(delivery_ids: DeliveryIds, config: ConfigOption = None) -> None:
    """Cancel queued, waiting or running deliveries; the results stay.

    \b
    Example:
      dicom-node deliveries cancel 5 -c config/node.yaml
    """
    with open_existing_store(read_settings(config)) as store:
        for delivery_id in delivery_ids:
            delivery = store.deliveries.cancel(delivery_id, datetime.now(UTC))
            typer.echo(f"delivery {delivery.id} to {delivery.peer} is {delivery.state}")


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
            is_asked = store.commitments.ask_again(delivery_id, datetime.now(UTC))
            words = "is asked for commitment again" if is_asked else f"is not asked: commitment {delivery.commitment}"
            typer.echo(f"delivery {delivery.id} to {delivery.peer} {words}")
