"""The commands ``studies``: which may leave, why others may not, and people's decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.delete_commands import delete_study
from dicom_node.cli.options import ConfigOption, JsonOption, LimitOption, open_existing_store, read_settings
from dicom_node.cli.tables import write_csv, write_fields, write_json, write_table

if TYPE_CHECKING:
    from dicom_node.gate.documents import Terms
    from dicom_node.settings import Settings

studies_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Show which studies may leave and why others may not; release or hold them.",
)

_CSV_COLUMNS = (
    "study_instance_uid",
    "state",
    "reason",
    "is_released",
    "last_arrival_at",
    "judged_at",
    "evidence_fingerprint",
)
StudyUid = Annotated[str, typer.Argument(metavar="UID", help="Study Instance UID.")]


@studies_app.command("list")
def list_studies(
    config: ConfigOption = None,
    state: Annotated[
        str | None,
        typer.Option("--state", metavar="STATE", help="Only this state: open, blocked, review, cleared or held."),
    ] = None,
    limit: LimitOption = 1000,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Write CSV for spreadsheets, without the series.")] = False,
) -> None:
    """List studies, the latest arrival first, with their state and the reason for it.

    Only a study that is cleared may leave. One that a person released is cleared, and the reason names the person.

    \b
    Examples:
      dicom-node studies list -c config/node.yaml --state review
      dicom-node studies list -c config/node.yaml --limit 100000 --csv > states.csv
    """
    from dicom_node.cli.state_words import gate_state
    from dicom_node.gate.decisions import list_standpoints
    from dicom_node.gate.documents import documents

    if as_json and as_csv:
        raise typer.BadParameter("say one of the two", param_hint="--json or --csv")
    settings = read_settings(config)
    wanted = gate_state(state)
    terms = _terms(settings)
    with open_existing_store(settings) as store:
        found = list_standpoints(store, terms.digest, terms.rules, state=wanted, limit=limit)
        if as_json:
            write_json(documents(store, terms, found))
            return
    if as_csv:
        write_csv(
            _CSV_COLUMNS,
            [
                (
                    one.study.study_instance_uid,
                    one.state,
                    one.reason,
                    one.is_released,
                    one.study.last_arrival_at,
                    one.study.judged_at,
                    one.study.evidence_fingerprint,
                )
                for one in found
            ],
        )
        return
    write_table(
        ("STUDY", "STATE", "LAST ARRIVAL", "WHY"),
        [(one.study.study_instance_uid, one.state, one.study.last_arrival_at, one.reason) for one in found],
        when_empty="no studies",
    )


@studies_app.command("show")
def show_study(study_instance_uid: StudyUid, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show one study: its state, every series with its verdicts, and the newest decision.

    \b
    Example:
      dicom-node studies show 1.2.840.1 -c config/node.yaml
    """
    from dicom_node.gate.documents import study_document

    settings = read_settings(config)
    terms = _terms(settings)
    with open_existing_store(settings) as store:
        document = study_document(store, terms, study_instance_uid)
    if as_json:
        write_json(document)
        return
    write_fields({name: value for name, value in document.items() if name not in ("series", "decision")})
    decision = document["decision"]
    if decision is not None:
        write_fields({"decision": f"{decision.kind} by {decision.decided_by}: {decision.reason}"})
    typer.echo("")
    write_table(
        ("SERIES", "MODALITY", "STANDING", "VERDICTS"),
        [
            (one["series_instance_uid"], one["modality"], one["standing"], ", ".join(one["verdicts"]))
            for one in document["series"]
        ],
        when_empty="no received series",
    )


@studies_app.command("decide")
def decide_study(
    study_instance_uid: StudyUid,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept forever.")],
    name: Annotated[str, typer.Option("--by", metavar="NAME", help="Who decides; it is kept forever.")],
    config: ConfigOption = None,
    release: Annotated[bool, typer.Option("--release", help="The study may leave as it is now.")] = False,
    hold: Annotated[bool, typer.Option("--hold", help="The study may not leave, whatever arrives.")] = False,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="The newest decision no longer counts.")] = False,
) -> None:
    """Release a study or hold it, or withdraw the newest decision.

    Decisions are never changed; a later one replaces an earlier one.

    A release covers the current evidence only: when anything arrives, the study is judged again. A hold stays in
    force whatever arrives, until the study is released or the hold withdrawn.

    \b
    Example:
      dicom-node studies decide 1.2.840.1 --release --reason "phantom" --by "A. Example" -c config/node.yaml
    """
    from dicom_node.gate.decisions import decide
    from dicom_node.store import DecisionKind

    said = {DecisionKind.RELEASE: release, DecisionKind.HOLD: hold, DecisionKind.WITHDRAW: withdraw}
    if sum(said.values()) != 1:
        raise typer.BadParameter("say one of the three", param_hint="--release, --hold or --withdraw")
    settings = read_settings(config)
    terms = _terms(settings)
    with open_existing_store(settings) as store:
        decision = decide(
            store,
            study_instance_uid,
            next(kind for kind, is_said in said.items() if is_said),
            reason=reason,
            decided_by=name,
            now=store.now(),
            gate_digest=terms.digest,
            rules=terms.rules,
        )
    typer.echo(f"study {study_instance_uid}: {decision.kind} by {decision.decided_by}, kept as decision {decision.id}")


@studies_app.command("history")
def show_history(study_instance_uid: StudyUid, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List every decision on a study, the newest first.

    \b
    Example:
      dicom-node studies history 1.2.840.1 -c config/node.yaml
    """
    from dicom_node.gate.documents import study_history

    with open_existing_store(read_settings(config)) as store:
        rows = study_history(store, study_instance_uid)
    if as_json:
        write_json(rows)
        return
    write_table(
        ("DECIDED", "WHAT", "BY", "REASON", "EVIDENCE"),
        [(row.decided_at, row.kind, row.decided_by, row.reason, row.evidence_fingerprint[:12]) for row in rows],
        when_empty="no decisions",
    )


studies_app.command("delete")(delete_study)


def _terms(settings: Settings) -> Terms:
    """Return the rules and the pipeline by which studies must have been judged."""
    from dicom_node import app
    from dicom_node.gate.documents import Terms

    return Terms(app.read_rules(settings).study, app.current_pipeline_digest(settings))
