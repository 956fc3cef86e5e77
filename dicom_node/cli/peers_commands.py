"""The commands ``peers``: check whether peers answer, and what they accept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.errors import EXIT_FAILED
from dicom_node.cli.options import ConfigOption, JsonOption, read_settings
from dicom_node.cli.tables import write_json, write_table

if TYPE_CHECKING:
    from dicom_node.settings import Peer, Settings

peers_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Check whether peers answer, and see what they accept."
)


@peers_app.command("check")
def check_peers(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Names of peers in the settings; default: all.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that peers answer: C-ECHO for DIMSE, a small QIDO-RS query for DICOMweb.

    Nothing is stored anywhere. Exit code 3 means that at least one does not answer; each has its reason.

    \b
    Example:
      dicom-node peers check pacs -c config/node.yaml
    """
    from dicom_node.failures import error_code
    from dicom_node.peers import check_peer

    settings = read_settings(config)
    checked = []
    for peer in _named(settings, names or ()):
        error = check_peer(peer, calling_ae_title=settings.node.ae_title)
        place = f"{peer.ae_title} at {peer.host}:{peer.port}" if peer.kind == "dimse" else str(peer.url)
        checked.append(
            {
                "name": peer.name,
                "place": place,
                "code": None if error is None else error_code(error),
                "message": None if error is None else str(error),
            }
        )
    if as_json:
        write_json(checked)
    else:
        rows = [(each["name"], each["code"] or "answers", each["place"], each["message"]) for each in checked]
        write_table(("PEER", "STATE", "WHERE", "WHY"), rows, when_empty="no peers are configured")
    if any(each["code"] for each in checked):
        raise typer.Exit(EXIT_FAILED)


@peers_app.command("encodings")
def list_encodings(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show which SOP classes DIMSE peers accepted or refused, in which transfer syntax, the last time it was proposed.

    The node sends every object in its own transfer syntax, so a refused one never arrives there. Storage commitment is
    listed where a peer was asked for it.

    \b
    Example:
      dicom-node peers encodings -c config/node.yaml
    """
    from pydicom.uid import UID

    from dicom_node.cli.options import open_existing_store

    with open_existing_store(read_settings(config)) as store:
        contexts = store.peer_contexts.list()
    if as_json:
        write_json(contexts)
        return
    rows = [
        (
            one.peer,
            "accepted" if one.is_accepted else "refused",
            UID(one.sop_class_uid).name,
            UID(one.transfer_syntax_uid).name,
            one.noted_at,
        )
        for one in contexts
    ]
    write_table(("PEER", "ANSWER", "SOP CLASS", "TRANSFER SYNTAX", "SINCE"), rows, when_empty="nothing was sent yet")


def _named(settings: Settings, names: list[str] | tuple[str, ...]) -> list[Peer]:
    """Return the peers of these names, in the settings' order; raise a usage error for an unknown name."""
    known = {peer.name: peer for peer in settings.peers}
    for name in names:
        if name not in known:
            words = ", ".join(sorted(known)) or "none is configured"
            raise typer.BadParameter(f"no peer is named {name!r}; known peers: {words}", param_hint="NAME")
    return [peer for name, peer in known.items() if not names or name in names]
