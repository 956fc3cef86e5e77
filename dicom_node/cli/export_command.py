"""The command ``export``: publish de-identified copies of a node's cleared studies in a folder or at a peer."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.errors import EXIT_FAILED
from dicom_node.cli.options import ConfigOption, open_existing_store, read_settings
from dicom_node.cli.outcomes import read_cohort, tell_outcomes
from dicom_node.cli.people import ByOption, person

if TYPE_CHECKING:
    from dicom_node.export.manifest import Manifest
    from dicom_node.export.targets import Target
    from dicom_node.settings import Settings
    from dicom_node.store import Store


def export(
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="FOLDER|PEER", help="Folder for the copies, or the name of a peer of the settings."
        ),
    ],
    project: Annotated[
        str, typer.Option("--project", metavar="NAME", help="Two projects share no UID, pseudonym or date offset.")
    ],
    key_file: Annotated[
        Path, typer.Option("--key-file", metavar="FILE", help="At least 32 secret bytes, readable only by the owner.")
    ],
    config: ConfigOption = None,
    cohort: Annotated[
        Path | None,
        typer.Option(
            "--cohort", metavar="FILE", help="Study Instance UIDs, one per line; default: all cleared studies."
        ),
    ] = None,
    profile: Annotated[
        Path | None, typer.Option("--profile", metavar="FILE", help="YAML instead of the built-in profile.")
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            "--work",
            metavar="FOLDER",
            help="With a peer: folder for manifest.json, and for the copies until they are sent; "
            "default: in the data directory.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, metavar="N", help="Processes that de-identify, one object each.")
    ] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do everything but publish.")] = False,
    by: ByOption = None,
) -> None:
    """Export de-identified copies of the studies that may leave, with the node's findings (SEG and SR).

    Only studies that `studies list` shows as cleared are exported, each completely or not at all, and only if nothing
    arrives and nobody decides otherwise before the copy is published. At a peer a study counts as published once every
    copy was accepted without a warning; the same command sends what is missing. manifest.json gives the outcome of
    every study; it is written even if nothing may leave.

    Exit code 0: every study of the cohort was exported, or, without one, every cleared study. 2: bad usage, settings or
    key, nothing left. 3: some studies were not exported, or an earlier export had to be withdrawn.

    \b
    Examples:
      dicom-node export -c config/node.yaml --project HEADS --key-file study.key --to /data/heads --dry-run
      dicom-node export -c config/node.yaml --project HEADS --key-file study.key --to archive
    """
    from dicom_node import app
    from dicom_node.cli.progress import growing_bar
    from dicom_node.export.profile import read_profile
    from dicom_node.export.pseudonyms import Pseudonyms, read_key
    from dicom_node.export.selection import GateTerms
    from dicom_node.export.studies import Progress, export_studies
    from dicom_node.gate.rules import gate_digest

    if not project.strip():
        raise typer.BadParameter("is empty; name the project", param_hint="--project")
    if cohort is not None and not cohort.is_file():
        raise typer.BadParameter("no such file", param_hint="--cohort")
    pseudonyms = Pseudonyms(project.strip(), read_key(key_file))
    chosen = read_profile(profile)
    wanted = None if cohort is None else read_cohort(cohort)
    settings = read_settings(config)
    rules = app.read_rules(settings).study
    pipeline = app.current_pipeline_digest(settings)
    ended: dict[str, list[str]] = defaultdict(list)
    with open_existing_store(settings) as store, growing_bar("studies") as (begin, step):

        def study_ended(uid: str, outcome: str) -> None:
            ended[outcome].append(uid)
            step()

        target, folder = _target(store, settings, to, work, pseudonyms.fingerprint(), by=person(by))
        manifest = export_studies(
            store,
            folder,
            target,
            GateTerms(rules, pipeline, gate_digest(rules, pipeline)),
            profile=chosen,
            pseudonyms=pseudonyms,
            now=app.utc_now,
            cohort=wanted,
            is_dry_run=dry_run,
            workers=workers,
            progress=Progress(begin, study_ended),
        )
    _report(manifest, folder, ended, is_dry_run=dry_run, has_cohort=wanted is not None)


def _target(store: Store, settings: Settings, to: str, work: Path | None, key: str, *, by: str) -> tuple[Target, Path]:
    """Return where to publish, and the folder of the manifest and of the copies until they are published."""
    from dicom_node import app
    from dicom_node.export.peer_target import peer_target
    from dicom_node.export.targets import FolderTarget

    peer = next((peer for peer in settings.peers if peer.name == to), None)
    if peer is None:
        if work is not None:
            told = f"{to} is no peer of the settings; a folder holds its own manifest"
            raise typer.BadParameter(told, param_hint="--work")
        return FolderTarget(store, Path(to), app.utc_now, by), Path(to)
    if Path(to).is_dir():
        raise typer.BadParameter(f"{to} is a peer and a folder here; type ./{to} for the folder", param_hint="--to")
    target = peer_target(
        store,
        peer,
        calling_ae_title=settings.node.ae_title,
        timeout_s=settings.delivery.timeout_s,
        now=app.utc_now,
        by=by,
    )
    return target, work or settings.node.data_dir / "exports" / f"{peer.name}-{key[:12]}"


def _report(
    manifest: Manifest, folder: Path, ended: Mapping[str, Sequence[str]], *, is_dry_run: bool, has_cohort: bool
) -> None:
    """Say what became of the studies, and name those that somebody has to do something about: the manifest does not."""
    from dicom_node.export.manifest import MANIFEST_FILE
    from dicom_node.export.readiness import Outcome

    studies = manifest.content["studies"]
    outcomes = Counter(one["outcome"] for one in studies)
    fine = {Outcome.EXPORTED.value, Outcome.WOULD_BE_EXPORTED.value}
    if not has_cohort:
        fine.add(Outcome.NOT_CLEARED.value)
    tell_outcomes(studies, ended, fine)
    refused = manifest.content["counts"]["refused_by_code"]
    if refused:
        typer.echo("objects that stay: " + ", ".join(f"{n} × {code}" for code, n in refused.items()))
    n_withdrawn = len(manifest.content["withdrawn"])
    if n_withdrawn:
        typer.echo(f"{n_withdrawn} earlier exports may no longer be used; tell those who have them (`exports list`)")
    name = f"dry-run-{MANIFEST_FILE}" if is_dry_run else MANIFEST_FILE
    typer.echo(f"{manifest.content['counts']['copied']} objects, see {folder / name}")
    if set(outcomes) - fine or n_withdrawn:
        raise typer.Exit(EXIT_FAILED)
