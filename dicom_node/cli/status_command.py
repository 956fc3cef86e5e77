"""``status``: one look at the node."""

from __future__ import annotations

from typing import Any

import typer

from dicom_node.cli.options import ConfigOption, JsonOption, open_existing_store, read_settings
from dicom_node.cli.tables import write_fields, write_json


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show whether the node answers, and how many series, jobs and deliveries are in which state.

    What ended for good is listed with its reason and the command that tries it again.

    \b
    Examples:
      dicom-node status -c config/node.yaml
      dicom-node status -c config/node.yaml --json
    """
    from dicom_node.cli.node_state import node_state

    settings = read_settings(config)
    with open_existing_store(settings) as store:
        state = node_state(settings, store)
    if as_json:
        write_json(state)
        return
    write_fields(
        {
            "node": f"{state['ae_title']}, data in {state['data_dir']}",
            "dimse": _port(state["dimse"]),
            "web": _port(state["web"]),
            "series": _counts(state["series"]),
            "jobs": _counts(state["jobs"]),
            "deliveries": _counts(state["deliveries"]),
            "conflicts": state["instances"]["conflicts"],
        }
    )
    option = "" if config is None else f" -c {config}"  # so that a suggestion can be typed as it is shown
    for job in state["dead_jobs"]:
        again = f"dicom-node jobs retry {job['id']}{option}"
        typer.echo(f"job {job['id']} is dead ({job['code']}): {job['message']}; {again}")
    for delivery in state["dead_deliveries"]:
        again = f"dicom-node deliveries retry {delivery['id']}{option}"
        what = f"delivery {delivery['id']} to {delivery['peer']} is dead"
        typer.echo(f"{what} ({delivery['code']}): {delivery['message']}; {again}")
    for kind in ("jobs", "deliveries"):
        if state[f"more_dead_{kind}"] > 0:
            how = f"dicom-node {kind} list --state dead{option}"
            typer.echo(f"{state[f'more_dead_{kind}']} more dead {kind}: {how}")


def _port(port: dict[str, Any]) -> str:
    words = {True: "listening", False: "not listening", None: "port chosen at start, see the log"}
    return f"{words[port['answers']]} ({port['host']}:{port['port']})"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {state}" for state, number in counts.items() if number) or "none"
