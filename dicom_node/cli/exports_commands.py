"""The commands ``exports``: which studies have left, where to, and which of them should no longer be there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.errors import EXIT_FAILED, fail
from dicom_node.cli.options import ConfigOption, JsonOption, open_existing_store, read_settings
from dicom_node.cli.people import MAX_REASON, NameOption, said
from dicom_node.cli.tables import write_json, write_table

exports_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List exported studies, and those that should no longer be where they are.",
)


@exports_app.command("list")
def list_exports(
    config: ConfigOption = None,
    study: Annotated[
        str | None, typer.Option("--study", metavar="UID", help="Only of this Study Instance UID.")
    ] = None,
    withdrawn: Annotated[bool, typer.Option("--withdrawn", help="Only studies that may no longer be used.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List exports, the oldest first: the study, its copy, project, target and state.

    COPY is the Study Instance UID by which those who have the copy know it. Nothing is recalled by a withdrawal: tell
    them.

    \b
    Example:
      dicom-node exports list -c config/node.yaml --withdrawn
    """
    from dicom_node.store import ExportState

    with open_existing_store(read_settings(config)) as store:
        rows = store.exports.list(
            study_instance_uids=None if study is None else [study], state=ExportState.WITHDRAWN if withdrawn else None
        )
    if as_json:
        write_json(rows)
        return
    write_table(
        ("STUDY", "COPY", "PROJECT", "TARGET", "STATE", "PUBLISHED", "WHY"),
        [
            (
                row.study_instance_uid,
                row.copy_study_instance_uid,
                row.project,
                row.target,
                row.state,
                row.published_at,
                row.withdrawn_because,
            )
            for row in rows
        ],
        when_empty="no exports",
    )


@exports_app.command("sample")
def draw_sample(
    n_studies: Annotated[int, typer.Argument(min=1, metavar="N", help="How many studies, chosen at random.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="A new folder for the sample.")],
    project: Annotated[str, typer.Option("--project", metavar="NAME", help="As in `export`.")],
    key_file: Annotated[Path, typer.Option("--key-file", metavar="FILE", help="As in `export`.")],
    config: ConfigOption = None,
    profile: Annotated[
        Path | None, typer.Option("--profile", metavar="FILE", help="As in `export`; default: the built-in profile.")
    ] = None,
) -> None:
    """Write a random sample of a project's exported studies for a person to look at.

    For each study: a picture of every series as it left, with the body outlined and the anonymised area filled, and a
    table of what its headers lost. The tables hold values of the sources: keep the folder where the originals are, and
    delete it afterwards. Record who looked with `exports seen`.

    Exit code 3: a copy made for the sample is not what was exported, because the node or the profile has changed.

    \b
    Example:
      dicom-node exports sample 5 -o look --project HEADS --key-file study.key -c config/node.yaml
    """
    from dicom_node import app
    from dicom_node.export.cleaner import Cleaner
    from dicom_node.export.profile import read_profile
    from dicom_node.export.pseudonyms import Pseudonyms, read_key
    from dicom_node.export.sample import draw_sample as draw
    from dicom_node.export.selection import GateTerms
    from dicom_node.gate.rules import gate_digest

    cleaner = Cleaner(read_profile(profile), Pseudonyms(project.strip(), read_key(key_file)))
    settings = read_settings(config)
    rules = app.read_rules(settings).study
    pipeline = app.current_pipeline_digest(settings)
    with open_existing_store(settings) as store:
        sampled = draw(store, output, GateTerms(rules, pipeline, gate_digest(rules, pipeline)), cleaner, n_studies)
    for one in sampled:
        typer.echo(f"{one.export.copy_study_instance_uid}: {one.n_pictures} pictures in {one.folder}")
    if not sampled:
        typer.echo("no study of this project and key is exported")
    others = [one.export.copy_study_instance_uid for one in sampled if not one.is_same]
    for uid in others:
        fail(
            f"{uid}: the copy in the sample is not the one that was exported; the node or the profile has changed since"
        )
    if others:
        raise typer.Exit(EXIT_FAILED)


@exports_app.command("check")
def check_copies(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder that `export` or `deidentify` wrote.")],
    config: ConfigOption = None,
    alone: Annotated[
        bool, typer.Option("--alone", help="Without the node that made the copies: with the manifests only.")
    ] = False,
) -> None:
    """Check a folder of copies: every copy is in a manifest, unchanged, and is what this node exported.

    Exit code 3: a copy or a manifest was added, removed or changed, or a study is withdrawn and its copies are here.

    \b
    Examples:
      dicom-node exports check /data/heads -c config/node.yaml
      dicom-node exports check copies --alone
    """
    from dicom_node.export.checking import check_folder, compare_with_node

    checked = check_folder(folder)
    findings = list(checked.findings)
    if not alone:
        with open_existing_store(read_settings(config)) as store:
            findings += compare_with_node(checked, store.exports.list())
    for finding in findings:
        fail(finding)
    n_studies = len(checked.digests)
    typer.echo(
        f"{checked.n_copies} copies of {n_studies} studies, {checked.n_manifests} manifests, {len(findings)} faults"
    )
    if findings:
        raise typer.Exit(EXIT_FAILED)


@exports_app.command("seen")
def note_seen(
    copies: Annotated[list[str], typer.Argument(metavar="COPY", help="As `exports list` and `sample` name copies.")],
    name: NameOption,
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="What was found; the audit trail keeps it.")],
    config: ConfigOption = None,
) -> None:
    """Record in the audit trail who has looked at exported studies, and what was found.

    \b
    Example:
      dicom-node exports seen 2.25.77 --by "A. Example" --note "no face, no text in pixels" -c config/node.yaml
    """
    found, person = said(note, name)
    with open_existing_store(read_settings(config)) as store:
        by_copy = {row.copy_study_instance_uid: row for row in store.exports.list()}
        unknown = [uid for uid in copies if uid not in by_copy]
        if unknown:
            raise typer.BadParameter(f"{unknown[0]} is no copy that was exported", param_hint="COPY")
        for uid in copies:
            row = by_copy[uid]
            store.audit.record(
                "export-seen",
                actor=person,
                subject=row.study_instance_uid,
                now=store.now(),
                detail={"copy": uid, "project": row.project, "found": found[:MAX_REASON]},
            )
    typer.echo(f"{len(copies)} recorded as seen by {person}")
