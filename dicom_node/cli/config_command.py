"""The command ``check-config``: check settings, rules, models and database without starting anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from dicom_node.cli.options import ConfigOption, read_settings

if TYPE_CHECKING:
    from pydantic import HttpUrl

    from dicom_node.settings import DimsePeer, Settings


def check_config(config: ConfigOption = None) -> None:
    """Check settings, rules, models, and database and bucket if they are named; start nothing.

    Every problem is named with file and key. Exit code 0 means that `serve` would start with these settings.

    \b
    Example:
      dicom-node check-config -c config/node.yaml
    """
    from dicom_node import app
    from dicom_node.engines import check_engine
    from dicom_node.store import Store

    settings = read_settings(config)
    app.read_rules(settings)
    app.check_tls(settings)
    check_engine(settings)
    models = app.read_models(settings)
    if settings.node.database_url is not None:
        Store.ask_database(settings.node.database_url)
    bucket = app.objects_place(settings)
    if bucket is not None:
        Store.ask_objects(bucket)
    objects = "" if bucket is None else f", objects in {bucket.url}"
    typer.echo(f"node {settings.node.ae_title}, data in {settings.node.data_dir}{objects}")
    dimse = settings.dimse
    ports = ([f"{dimse.port}"] if dimse.plain else []) + ([f"{dimse.tls.port} with TLS"] if dimse.tls.port else [])
    typer.echo(f"DIMSE on {dimse.host}, port {' and '.join(ports)}; web on {settings.web.host}:{settings.web.port}")
    for model in models:
        identity = model.identity
        typer.echo(f"model {identity.role}: {identity.name} {identity.version} ({identity.sha256[:12]})")
    for peer in settings.peers:
        place = _place(peer) if peer.kind == "dimse" else str(peer.url)
        gets = "gets every result" if peer.name in settings.deliver_to else "gets what rules send it"
        typer.echo(f"peer {peer.name}: {place}, {gets}")
    if not settings.peers:
        typer.echo("no peers: results are kept and served by DICOMweb only")
    for target in settings.notify:
        typer.echo(f"target {target.name}: {target.kind} at {_shown_url(target.url)}, is told the state of every study")
    warnings = [*app.data_dir_warnings(settings), *_certificate_warnings(settings), *_environment_warnings(settings)]
    for warning in warnings:
        typer.echo(f"warning: {warning}")
    typer.echo("the settings are usable")


def _place(peer: DimsePeer) -> str:
    return f"{peer.ae_title} at {peer.host}:{peer.port}" + ("" if peer.tls is None else " with TLS")


def _certificate_warnings(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each certificate that is not valid, not for long, or signed by nobody else."""
    from dicom_node.certificates import Certificates

    own = "certificate_file"
    for each in Certificates(settings).facts():
        words = each.warning(datetime.now(UTC))
        if words is not None:
            yield words
        if each.is_self_signed and each.about.endswith(own):
            yield f"{each.about}: {each.path} is self-signed; every peer has to have this very certificate in its trust"


def _environment_warnings(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each variable that the settings name and this environment does not have."""
    for key in ("peers", "notify"):
        for entry in getattr(settings, key):
            for option in ("token_env", "password_env", "secret_env"):
                variable = getattr(entry, option, None)
                if variable is not None and not os.environ.get(variable):
                    yield f"{key}: {entry.name} needs environment variable {variable} ({option}), which is not set here"


def _shown_url(url: HttpUrl) -> str:
    """Return the origin of a URL; the rest of a webhook's may be a secret."""
    return f"{url.scheme}://{url.host}:{url.port}"
