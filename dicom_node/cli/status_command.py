"""The command ``status``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from dicom_node.cli.errors import EXIT_FAILED
from dicom_node.cli.options import ConfigOption, JsonOption, read_settings
from dicom_node.cli.tables import shown, write_fields, write_json

_PORTS = {"dimse": "dimse", "dimse_tls": "dimse with TLS", "web": "web"}


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show whether the node works, and how many series, jobs, deliveries and notices are in each state.

    Troubles are listed with their reason; exit code 3 means that there is at least one. Final failures are listed
    with the command that retries them.

    \b
    Examples:
      dicom-node status -c config/node.yaml
      dicom-node status -c config/node.yaml --json
    """
    from dicom_node.cli.node_state import node_state

    state = node_state(read_settings(config))
    if as_json:
        write_json(state)
    else:
        _show(state, "" if config is None else f" -c {config}")
    if state["troubles"]:
        raise typer.Exit(EXIT_FAILED)


def _show(state: Mapping[str, Any], option: str) -> None:
    """Write the state for people; ``option`` is added to suggested commands, so that they work as shown."""
    fields = {
        "node": f"{state['ae_title']}, data in {state['data_dir']}",
        **{words: _port(state[key]) for key, words in _PORTS.items() if key in state},
        "parts": ", ".join(f"{part['name']} {part['state']}" for part in state["parts"]) or "none",
    }
    if "series" in state:
        fields |= {kind: _counts(state[kind]) for kind in ("series", "jobs", "deliveries", "notices")}
        fields |= {f"commitment by {peer}": _counts(counts) for peer, counts in state["commitments"].items()}
        fields |= {f"series at {peer}": _counts(counts) for peer, counts in state["delivered_series"].items()}
        fields["conflicts"] = state["instances"]["conflicts"]
    for certificate in state["certificates"]:
        words = f"{certificate['subject']}, valid until {shown(certificate['not_after'])}"
        before = fields.get(certificate["setting"])
        fields[certificate["setting"]] = words if before is None else f"{before}; {words}"
    write_fields(fields)
    for trouble in state["troubles"]:
        since = f" since {shown(trouble.since)}" if trouble.since else ""
        typer.echo(f"{trouble.about}{since}: {trouble.message} [{trouble.code}]")
    for certificate in state["certificates"]:
        if certificate["state"] == "certificate-expires":
            typer.echo(f"warning: {certificate['warning']}")
    for job in state.get("dead_jobs", ()):
        again = f"dicom-node jobs retry {job['id']}{option}"
        typer.echo(f"job {job['id']} is dead ({job['code']}): {job['message']}; {again}")
    for delivery in state.get("dead_deliveries", ()):
        again = f"dicom-node deliveries retry {delivery['id']}{option}"
        what = f"delivery {delivery['id']} to {delivery['peer']} is dead"
        typer.echo(f"{what} ({delivery['code']}): {delivery['message']}; {again}")
    for notice in state.get("dead_notices", ()):
        again = f"dicom-node notices retry {notice['id']}{option}"
        what = f"notice {notice['id']} to {notice['target']} about study {notice['study_instance_uid']} is dead"
        typer.echo(f"{what} ({notice['code']}): {notice['message']}; {again}")
    for kind in ("jobs", "deliveries", "notices"):
        if state.get(f"more_dead_{kind}", 0) > 0:
            how = f"dicom-node {kind} list --state dead{option}"
            typer.echo(f"{state[f'more_dead_{kind}']} more dead {kind}: {how}")


def _port(port: dict[str, Any]) -> str:
    words = {True: "listening", False: "not listening", None: "port chosen at start, see the log"}
    return f"{words[port['answers']]} ({port['host']}:{port['port']})"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {state}" for state, number in counts.items() if number) or "none"
