"""The commands ``tokens``: who may use the web server."""

from __future__ import annotations

from typing import Annotated

import typer

from dicom_node.access.roles import Role
from dicom_node.cli.options import ConfigOption, JsonOption, open_existing_store, read_settings
from dicom_node.cli.people import ByOption, person
from dicom_node.cli.tables import write_json, write_table

tokens_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Create, list and revoke tokens, which people and programs need with `web.access: tokens`.",
)


@tokens_app.command("create")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Person or program; the audit trail has this name.")],
    role: Annotated[
        Role,
        typer.Option(
            "--role",
            help="monitor reads metrics, sender stores instances, viewer reads, reviewer decides and stores too, "
            "exporter sends too, admin deletes results too.",
        ),
    ],
    config: ConfigOption = None,
    days: Annotated[float, typer.Option("--days", metavar="N", help="Days until it expires.")] = 90,
    by: ByOption = None,
) -> None:
    """Create a token and write it to standard output, once: only its SHA-256 is kept.

    To replace one, create another of the same name, hand it over, and revoke the old one.

    \b
    Example:
      dicom-node tokens create "A. Example" --role reviewer -c config/node.yaml
    """
    from dicom_node import app
    from dicom_node.access.tokens import create_token

    settings = read_settings(config)
    with app.open_store(settings) as store:  # also before the first start of the node
        text, row = create_token(store, name, role, days=days, created_by=person(by), now=app.utc_now())
    typer.echo(text)
    typer.echo(
        f"token {row.id} of {row.person}, role {row.role}, until {row.expires_at:%Y-%m-%d}; it is not shown again",
        err=True,
    )
    if settings.web.access == "this-machine":
        typer.echo("nobody needs it: web.access is this-machine; set it to tokens and restart the node", err=True)


@tokens_app.command("list")
def list_tokens(
    config: ConfigOption = None,
    show_all: Annotated[bool, typer.Option("--all", help="Those that are expired or revoked, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List tokens, the newest first, without their secrets.

    \b
    Example:
      dicom-node tokens list --all -c config/node.yaml
    """
    from dicom_node import app

    now = app.utc_now()
    with open_existing_store(read_settings(config)) as store:
        rows = [row for row in store.access_tokens.list() if show_all or row.ended_at(now) is None]
    if as_json:
        hidden = ("secret_digest",)
        fields = [name for name in rows[0].__dataclass_fields__ if name not in hidden] if rows else []
        write_json([{name: getattr(row, name) for name in fields} for row in rows])
        return
    write_table(
        ("TOKEN", "NAME", "ROLE", "STATE", "CREATED", "BY", "EXPIRES", "LAST USED"),
        [
            (
                row.id,
                row.person,
                row.role,
                "revoked" if row.revoked_at else "expired" if row.expires_at <= now else "valid",
                row.created_at,
                row.created_by,
                row.expires_at,
                row.last_used_at,
            )
            for row in rows
        ],
        when_empty="no tokens",
    )


@tokens_app.command("revoke")
def revoke(
    tokens: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TOKEN]...", help="As `tokens list` shows them, such as 3f2a9c0b71de."),
    ] = None,
    config: ConfigOption = None,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="All of this person or program.")] = None,
    by: ByOption = None,
) -> None:
    """Revoke tokens: they count no more from now on, and sessions that began with them are over.

    \b
    Examples:
      dicom-node tokens revoke 3f2a9c0b71de -c config/node.yaml
      dicom-node tokens revoke --name "A. Example" -c config/node.yaml
    """
    from dicom_node import app

    if bool(tokens) == (name is not None):
        raise typer.BadParameter("say one of the two", param_hint="TOKEN... or --name")
    now = app.utc_now()
    with open_existing_store(read_settings(config)) as store:
        wanted = [row.id for row in store.access_tokens.list() if row.person == name and row.ended_at(now) is None]
        for token_id in tokens or wanted:
            row = store.access_tokens.revoke(token_id, by=person(by), now=now)
            typer.echo(f"token {row.id} of {row.person} is revoked")
    if not tokens and not wanted:
        typer.echo(f"{name} has no valid token")
