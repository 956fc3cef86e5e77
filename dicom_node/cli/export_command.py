"""The command ``export``: write de-identified copies of a node's cleared studies to a folder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.errors import EXIT_FAILED
from dicom_node.cli.options import ConfigOption, open_existing_store, read_settings


def export(
    output: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Folder for the copies.")],
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do everything but publish.")] = False,
) -> None:
    """Export de-identified copies of the studies that may leave, with the node's SEG objects.

    Only studies that `studies list` shows as cleared are exported, each completely or not at all, and only if nothing
    arrives and nobody decides otherwise before the copy is published. manifest.json gives the outcome of every study;
    it is written even if nothing may leave.

    Exit code 0: every study of the cohort was exported, or, without one, every cleared study. 3: some were not.

    \b
    Example:
      dicom-node export -c config/node.yaml --project HEADS --key-file study.key --to /data/heads --dry-run
    """
    from dicom_node import app
    from dicom_node.cli.progress import counting_bar
    from dicom_node.export.profile import read_profile
    from dicom_node.export.pseudonyms import Pseudonyms, read_key
    from dicom_node.export.studies import GateTerms, Outcome, export_studies
    from dicom_node.gate.rules import gate_digest

    if not project.strip():
        raise typer.BadParameter("is empty; name the project", param_hint="--project")
    if cohort is not None and not cohort.is_file():
        raise typer.BadParameter("no such file", param_hint="--cohort")
    pseudonyms = Pseudonyms(project.strip(), read_key(key_file))
    chosen = read_profile(profile)
    wanted = None if cohort is None else [line.strip() for line in cohort.read_text().splitlines() if line.strip()]
    settings = read_settings(config)
    rules = app.read_rules(settings).study
    pipeline = app.current_pipeline_digest(settings)
    terms = GateTerms(rules, pipeline, gate_digest(rules, pipeline))
    with open_existing_store(settings) as store, counting_bar("studies", 0 if wanted is None else len(wanted)) as step:
        manifest = export_studies(
            store,
            output,
            terms,
            profile=chosen,
            pseudonyms=pseudonyms,
            now=app.utc_now,
            cohort=wanted,
            is_dry_run=dry_run,
            on_study=step,
        )
    outcomes = Counter(one["outcome"] for one in manifest.content["studies"])
    for outcome, n in sorted(outcomes.items()):
        reasons = Counter(one["reason"] for one in manifest.content["studies"] if one["outcome"] == outcome)
        typer.echo(f"{n} × {outcome}" + "".join(f"\n  {m} × {text}" for text, m in reasons.most_common(5) if text))
    typer.echo(f"{manifest.content['counts']['copied']} objects, see manifest.json in {output}")
    fine = {Outcome.EXPORTED.value, Outcome.WOULD_BE_EXPORTED.value}
    if wanted is None:
        fine.add(Outcome.NOT_CLEARED.value)
    if set(outcomes) - fine:
        raise typer.Exit(EXIT_FAILED)
