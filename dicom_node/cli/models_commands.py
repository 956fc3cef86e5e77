"""The commands ``models``: list the node's models, add one, verify a folder."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dicom_node.cli.options import ConfigOption, JsonOption, read_settings
from dicom_node.cli.tables import write_json, write_table

if TYPE_CHECKING:
    from inference.models import ModelSpec

LABEL_NUMBER = re.compile(r"[0-9]{1,3}")

models_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, add and verify models: nnU-Net trained-model folders with a model.yaml.",
)


class Role(StrEnum):
    """What a model finds."""

    FOREGROUND = "foreground"
    ANONYMIZED = "anonymized"


@models_app.command("list")
def list_models(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the two models that the node uses with these settings.

    \b
    Example:
      dicom-node models list -c config/node.yaml
    """
    from dicom_node import app

    specs = app.read_models(read_settings(config))
    if as_json:
        write_json([_described(spec) for spec in specs])
        return
    write_table(
        ("ROLE", "NAME", "VERSION", "SHA-256", "MASK LABELS", "FOLDER"),
        [
            (
                spec.identity.role,
                spec.identity.name,
                spec.identity.version,
                spec.identity.sha256[:12],
                ", ".join(spec.mask_labels),
                spec.folder,
            )
            for spec in specs
        ],
        when_empty="no models",
    )


@models_app.command("add")
def add(
    role: Annotated[Role, typer.Argument(help="What the model finds.")],
    source: Annotated[
        str,
        typer.Argument(
            metavar="PATH|URL", help="nnU-Net trained-model folder, a zip of one, or the https address of a zip."
        ),
    ],
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="NAME=NUMBER",
            help="Label of the network by its name here: foreground; removed, smoothed, replaced, altered, anonymized. "
            "Repeat it for several; default: from dataset.json if that is unambiguous.",
        ),
    ] = None,
    destination: Annotated[
        Path | None,
        typer.Option(
            "--to",
            metavar="FOLDER",
            help="Folder to create for the model; it must not exist. Default: models/ and the name of PATH.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="TEXT", help="Model name in results.")] = None,
    version: Annotated[str, typer.Option("--version", metavar="TEXT", help="Model version in results.")] = "unknown",
    sha256: Annotated[
        str | None,
        typer.Option("--sha256", metavar="HEX", help="SHA-256 of the zip at URL, as published.", show_default=False),
    ] = None,
    licence: Annotated[str, typer.Option("--licence", metavar="TEXT", help="Licence of the weights.")] = "",
) -> None:
    """Add an nnU-Net export: check it, copy what prediction needs, write its model.yaml.

    No code of the export is run; weights that need code are refused. The node uses the model once its folder is
    named in the settings.

    \b
    Examples:
      dicom-node models add foreground export.zip --label foreground=1
      dicom-node models add anonymized Dataset101_Deface --label removed=1 --to /var/lib/dicom-node/models/deface
      dicom-node models add foreground https://example.org/export.zip --sha256 9f86d081...
    """
    from inference.add_model import add_model, name_of_model

    labels = _labels(label)
    with ExitStack() as stack:
        path = stack.enter_context(_downloaded(source, sha256)) if "://" in source else _existing(source, sha256)
        folder = (Path("models") / name_of_model(path)) if destination is None else destination
        spec = add_model(role.value, path, labels, folder, name=name, version=version, licence=licence)
    _say_usable(spec)
    typer.echo("to use it, write into the settings:")
    typer.echo(f"  models:\n    {role.value}: {folder.absolute()}")


@models_app.command("verify")
def verify(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="FOLDER", help="Model folders; default: the models in use.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Check that models can be used: every file has its SHA-256, and the weights load.

    \b
    Examples:
      dicom-node models verify
      dicom-node models verify models/body
    """
    from dicom_node import app
    from inference.load_model import verify_model

    for folder in folders or [spec.folder for spec in app.read_models(read_settings(config))]:
        _say_usable(verify_model(folder))


@contextmanager
def _downloaded(url: str, sha256: str | None) -> Iterator[Path]:
    """Yield a downloaded file, which is removed after the block."""
    from dicom_node.peers.download import download, name_of_url
    from inference.add_model import MAX_ARCHIVE_BYTES

    with tempfile.TemporaryDirectory(prefix="dicom-node-model-") as folder:
        path = Path(folder) / name_of_url(url)
        found = download(url, path, max_bytes=MAX_ARCHIVE_BYTES, sha256=sha256)
        typer.echo(f"downloaded {path.stat().st_size} bytes, SHA-256 {found}")
        yield path


def _existing(source: str, sha256: str | None) -> Path:
    path = Path(source)
    if not path.exists():
        raise typer.BadParameter(f"{source!r} does not exist", param_hint="PATH|URL")
    if sha256 is not None:
        raise typer.BadParameter("is only for an address", param_hint="--sha256")
    return path


def _say_usable(spec: ModelSpec) -> None:
    identity = spec.identity
    typer.echo(f"usable: {identity.role} model {identity.name} {identity.version}, SHA-256 {identity.sha256}")


def _described(spec: ModelSpec) -> dict[str, Any]:
    return {
        "role": spec.identity.role,
        "name": spec.identity.name,
        "version": spec.identity.version,
        "sha256": spec.identity.sha256,
        "labels": {name: list(values) for name, values in spec.labels.items()},
        "mask_labels": list(spec.mask_labels),
        "licence": spec.licence,
        "trained_on": spec.trained_on,
        "folder": str(spec.folder),
    }


def _labels(texts: list[str] | None) -> dict[str, tuple[int, ...]] | None:
    """Parse texts such as ``removed=1``, where a name may occur repeatedly; return None without any text."""
    if not texts:
        return None
    labels: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, number = text.partition("=")
        if not LABEL_NUMBER.fullmatch(number):
            raise typer.BadParameter(f"{text!r}: expected NAME=NUMBER, such as removed=1", param_hint="--label")
        labels[name] = (*labels.get(name, ()), int(number))
    return labels
