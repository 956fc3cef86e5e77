"""Tables of the index, as the latest migration leaves them (a test compares the two)."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

HEAD_REVISION = "0022"
"""Latest migration in ``migrations/versions``."""

UID = sa.String(64)
WORD = sa.String(32)


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """Aware UTC datetime, even if the database keeps no time zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Raise ValueError for a naive datetime rather than guess its zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive datetime {value.isoformat()}; the index keeps aware UTC only")
        return value.astimezone(UTC)

    def process_result_value(self, value: object, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Add UTC if the database returns a naive datetime."""
        if not isinstance(value, datetime):
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def without_index(column: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """Return a column to compare in a form that no index matches, such as a state in a subquery for each of many rows.

    Nearly all rows have the same state, which SQLite does not know (it has no statistics): it takes an index on states
    for as good as one on UIDs, and then looks at all rows once for each.
    """
    return sa.func.coalesce(column, "")


studies = sa.Table(
    "studies",
    metadata,
    sa.Column("study_instance_uid", UID, primary_key=True),
    sa.Column("state", WORD, nullable=False),
    sa.Column("reason", sa.Text, nullable=True),  # of the state, in the words of the rules
    sa.Column("judged_at", UtcDateTime, nullable=True),
    sa.Column("gate_digest", sa.String(64), nullable=True),  # of the rules and the pipeline by which it was judged
    sa.Column("evidence_fingerprint", sa.String(64), nullable=True),  # of the evidence that the state is based on
    # For which rules and pipeline, and as what state of the rules, it was announced last; NULL: to be announced.
    sa.Column("announced_for", sa.String(64), nullable=True),
    sa.Column("announced_state", WORD, nullable=True),
    sa.Column("patient_id", sa.Text, nullable=False),
    sa.Column("patient_name_key", sa.Text, nullable=False),  # case-folded alphabetic group
    sa.Column("patient_name_groups_key", sa.Text, nullable=False),  # the other groups, each after a "="
    sa.Column("patient_birth_date", sa.Text, nullable=False),
    sa.Column("patient_sex", sa.Text, nullable=False),
    sa.Column("study_date", sa.Text, nullable=False),
    sa.Column("study_time", sa.Text, nullable=False),
    sa.Column("accession_number", sa.Text, nullable=False),
    sa.Column("study_id", sa.Text, nullable=False),
    sa.Column("study_description", sa.Text, nullable=False),
    sa.Column("referring_physician_name_key", sa.Text, nullable=False),
    sa.Column("attributes", sa.Text, nullable=False),  # DICOM JSON
    sa.Column("first_arrival_at", UtcDateTime, nullable=False),
    sa.Column("last_arrival_at", UtcDateTime, nullable=False),
    sa.Index(None, "study_date", "study_instance_uid"),
    sa.Index(None, "patient_id"),
    sa.Index(None, "patient_name_key"),
    sa.Index(None, "patient_name_groups_key"),
    sa.Index(None, "accession_number"),
    sa.Index(None, "last_arrival_at"),
    sa.Index(None, "announced_for"),
)

series = sa.Table(
    "series",
    metadata,
    sa.Column("series_instance_uid", UID, primary_key=True),
    sa.Column("study_instance_uid", UID, sa.ForeignKey("studies.study_instance_uid"), nullable=False),
    sa.Column("modality", sa.Text, nullable=False),
    sa.Column("series_number", sa.Integer, nullable=True),
    sa.Column("series_description", sa.Text, nullable=False),
    sa.Column("body_part_examined", sa.Text, nullable=False),
    sa.Column("performed_procedure_step_start_date", sa.Text, nullable=False),
    sa.Column("performed_procedure_step_start_time", sa.Text, nullable=False),
    sa.Column("attributes", sa.Text, nullable=False),  # DICOM JSON
    sa.Column("origin", WORD, nullable=False),
    sa.Column("state", WORD, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("n_instances", sa.Integer, nullable=False),
    sa.Column("n_dataset_bytes", sa.BigInteger, nullable=False),
    sa.Column("n_sources_deleted", sa.Integer, nullable=False, server_default="0"),  # of a processed generation
    sa.Column("first_arrival_at", UtcDateTime, nullable=False),
    sa.Column("last_arrival_at", UtcDateTime, nullable=False),
    sa.Column("completed_at", UtcDateTime, nullable=True),
    sa.Column("skip_reason", sa.Text, nullable=True),
    sa.Column("forced_at", UtcDateTime, nullable=True),  # when a person declared it complete; NULL once it is closed
    sa.Column("waits_because", sa.Text, nullable=True),  # evidence that more is to come
    sa.Column("complete_because", sa.Text, nullable=True),
    sa.Column("is_doubted", sa.Boolean, nullable=True),  # closed although nothing showed that it is complete
    sa.Column("pipeline_digest", sa.String(64), nullable=True),  # of the pipeline for which it was closed
    sa.Index(None, "study_instance_uid", "modality"),
    sa.Index(None, "modality"),  # for rare ones only, see `index.modalities`: for others planners would use it and sort
    sa.Index(None, "state", "last_arrival_at"),
    sa.Index(None, "last_arrival_at"),
)

instances = sa.Table(
    "instances",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),  # order of arrival
    sa.Column("sop_instance_uid", UID, nullable=False),
    sa.Column("sop_class_uid", UID, nullable=False),
    sa.Column("series_instance_uid", UID, sa.ForeignKey("series.series_instance_uid"), nullable=False),
    sa.Column("study_instance_uid", UID, sa.ForeignKey("studies.study_instance_uid"), nullable=False),
    sa.Column("transfer_syntax_uid", UID, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("dataset_bytes", sa.BigInteger, nullable=False),
    sa.Column("origin", WORD, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("instance_number", sa.Integer, nullable=True),
    sa.Column("attributes", sa.Text, nullable=False),  # DICOM JSON
    sa.Column("patient_id", sa.Text, nullable=True),  # which may differ from its study's; that keeps the study in
    sa.Column("calling_ae_title", sa.Text, nullable=False),
    sa.Column("association_id", sa.Text, nullable=False),
    sa.Column("received_at", UtcDateTime, nullable=False),
    sa.Column("superseded_at", UtcDateTime, nullable=True),  # a result of ours that a later one replaced
    sa.Index(None, "sop_instance_uid", unique=True),
    sa.Index(None, "series_instance_uid", "instance_number"),
    sa.Index(None, "study_instance_uid"),
    sa.Index(None, "digest"),
    sa.Index(None, "patient_id"),
)

deleted_sources = sa.Table(
    "deleted_sources",  # what retention deleted: it still belongs to the evidence on the study
    metadata,
    sa.Column("series_instance_uid", sa.ForeignKey("series.series_instance_uid"), primary_key=True),
    sa.Column("instances", sa.Text, nullable=False),  # a line each: SOP Instance UID, space, digest
    sa.Column("patient_ids", sa.Text, nullable=False),  # JSON list
)

conflicts = sa.Table(
    "conflicts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("sop_instance_uid", UID, nullable=False),
    sa.Column("reason", WORD, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("stored_digest", sa.String(64), nullable=True),
    sa.Column("series_instance_uid", UID, nullable=True),  # the series in doubt; NULL in rows of early versions
    sa.Column("transfer_syntax_uid", UID, nullable=False),
    sa.Column("calling_ae_title", sa.Text, nullable=False),
    sa.Column("association_id", sa.Text, nullable=False),
    sa.Column("received_at", UtcDateTime, nullable=False),
    sa.Column("settled_at", UtcDateTime, nullable=True),
    sa.Column("choice", WORD, nullable=True),  # how it was settled
    sa.Column("differences", sa.Text, nullable=True),  # JSON list of attribute names; NULL: not compared yet
    # A conflicting instance that is sent again adds no second row.
    sa.UniqueConstraint("sop_instance_uid", "digest", "transfer_syntax_uid"),
    sa.Index(None, "digest"),
    sa.Index(None, "series_instance_uid"),
)

removed_objects = sa.Table(
    "removed_objects",  # no row may name them before they were written again; see `objects.s3.removals`
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("token", sa.String(32), nullable=False),  # another one for each removal
    sa.Column("began_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime, index=True),  # when the store had confirmed; null while it may still happen
)

unproven = sa.Table(
    "unproven",  # objects whose rows were committed while their bytes were still being synced; see `recovery`
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("writer", sa.String(64), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("series_instance_uid", UID, sa.ForeignKey("series.series_instance_uid"), nullable=False),
    sa.Column("study_instance_uid", UID, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("pipeline_digest", sa.String(64), nullable=False),
    # The route, decided once when the series is closed; empty in jobs from before revision 0005.
    sa.Column("rule_name", sa.Text, nullable=True),
    sa.Column("stacks", sa.Text, nullable=True),  # JSON list
    sa.Column("deliver_to", sa.Text, nullable=True),  # JSON list of peer names
    sa.Column("state", WORD, nullable=False),
    sa.Column("attempt_number", sa.Integer, nullable=False),
    sa.Column("owner", sa.Text, nullable=True),
    sa.Column("lease_expires_at", UtcDateTime, nullable=True),
    sa.Column("retry_at", UtcDateTime, nullable=True),
    sa.Column("error_code", sa.Text, nullable=True),
    sa.Column("error_message", sa.Text, nullable=True),
    sa.Column("error_detail", sa.Text, nullable=True),
    sa.Column("queued_at", UtcDateTime, nullable=False),
    sa.Column("started_at", UtcDateTime, nullable=True),
    sa.Column("ended_at", UtcDateTime, nullable=True),
    sa.UniqueConstraint("series_instance_uid", "generation", "pipeline_digest", name="uq_jobs_work"),
    sa.Index(None, "state", "id"),
    sa.Index(None, "study_instance_uid"),
)

job_events = sa.Table(
    "job_events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("job_id", sa.ForeignKey("jobs.id"), nullable=False),
    sa.Column("event", WORD, nullable=False),
    sa.Column("from_state", WORD, nullable=True),
    sa.Column("to_state", WORD, nullable=False),
    sa.Column("attempt_number", sa.Integer, nullable=False),
    sa.Column("owner", sa.Text, nullable=True),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("occurred_at", UtcDateTime, nullable=False),
    sa.Index(None, "job_id"),
)

results = sa.Table(
    "results",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("job_id", sa.ForeignKey("jobs.id"), nullable=True),  # NULL for a result of a study
    sa.Column("kind", WORD, nullable=False),
    sa.Column("stack_number", sa.Integer, nullable=False),
    sa.Column("sop_instance_uid", UID, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("superseded_by_job_id", sa.Integer, nullable=True),
    # Of a result of a study only: the study, and the evidence for which it counts.
    sa.Column("study_instance_uid", UID, sa.ForeignKey("studies.study_instance_uid"), nullable=True),
    sa.Column("evidence_fingerprint", sa.String(64), nullable=True),
    sa.UniqueConstraint("job_id", "sop_instance_uid"),
    sa.Index(None, "sop_instance_uid"),
    sa.Index(None, "study_instance_uid"),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    # NULL: a received instance that is forwarded, or any instance that a C-MOVE asks for.
    sa.Column("result_id", sa.ForeignKey("results.id"), nullable=True),
    # The object itself, since a received instance may be deleted once it is delivered.
    sa.Column("study_instance_uid", UID, nullable=False),
    sa.Column("series_instance_uid", UID, nullable=False),
    sa.Column("sop_class_uid", UID, nullable=False),
    sa.Column("sop_instance_uid", UID, nullable=False),
    sa.Column("transfer_syntax_uid", UID, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("peer", sa.Text, nullable=False),
    sa.Column("state", WORD, nullable=False),
    sa.Column("attempt_number", sa.Integer, nullable=False),
    sa.Column("owner", sa.Text, nullable=True),
    sa.Column("lease_expires_at", UtcDateTime, nullable=True),
    sa.Column("retry_at", UtcDateTime, nullable=True),
    sa.Column("error_code", sa.Text, nullable=True),
    sa.Column("error_message", sa.Text, nullable=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime, nullable=True),
    sa.Column("replaced_by_id", sa.Integer, nullable=True),  # the delivery that sends the same object again
    # Of a delivery that a C-MOVE asks for: the set to which it belongs, and the request.
    sa.Column("move_id", sa.String(32), nullable=True),
    sa.Column("move_originator", sa.Text, nullable=True),  # AE title
    sa.Column("move_message_id", sa.Integer, nullable=True),
    sa.Index(None, "move_id"),
    sa.Index(None, "state", "id"),
    sa.Index(None, "result_id"),
    sa.Index(None, "series_instance_uid", "peer"),
)

commitments = sa.Table(
    "commitments",  # what a peer that is asked for storage commitment says about a delivery that it accepted
    metadata,
    sa.Column("delivery_id", sa.ForeignKey("deliveries.id"), primary_key=True, autoincrement=False),
    sa.Column("peer", sa.Text, nullable=False),
    sa.Column("state", WORD, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("n_requests", sa.Integer, nullable=False),
    sa.Column("due_at", UtcDateTime, nullable=True),  # when to ask (again); NULL: no more
    sa.Column("committed_at", UtcDateTime, nullable=True),
    sa.Index(None, "peer", "due_at"),
)

commitment_requests = sa.Table(
    "commitment_requests",
    metadata,
    sa.Column("transaction_uid", UID, primary_key=True),
    sa.Column("peer", sa.Text, nullable=False),
    sa.Column("state", WORD, nullable=False),
    sa.Column("requested_at", UtcDateTime, nullable=False),
    sa.Column("reported_at", UtcDateTime, nullable=True),
    sa.Index(None, "peer", "requested_at"),
)

commitment_items = sa.Table(
    "commitment_items",
    metadata,
    sa.Column("transaction_uid", sa.ForeignKey("commitment_requests.transaction_uid"), primary_key=True),
    sa.Column("delivery_id", sa.ForeignKey("deliveries.id"), primary_key=True),
    sa.Column("outcome", WORD, nullable=True),  # "committed" or "failed"; NULL: not reported
    sa.Column("failure_reason", sa.Integer, nullable=True),
)

delivery_checks = sa.Table(
    "delivery_checks",  # whether a peer lists as many instances of a series as it accepted
    metadata,
    sa.Column("peer", sa.Text, primary_key=True),
    sa.Column("series_instance_uid", UID, primary_key=True),
    sa.Column("study_instance_uid", UID, nullable=False),
    sa.Column("n_sent", sa.Integer, nullable=True),
    sa.Column("n_found", sa.Integer, nullable=True),
    sa.Column("n_checks", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),  # why there is no answer
    sa.Column("checked_at", UtcDateTime, nullable=True),
    sa.Column("due_at", UtcDateTime, nullable=True),  # when to ask (again); NULL: no more
    sa.Index(None, "peer", "due_at"),
)

peer_contexts = sa.Table(
    "peer_contexts",  # what a peer accepted and refused the last time that it was proposed
    metadata,
    sa.Column("peer", sa.Text, primary_key=True),
    sa.Column("sop_class_uid", UID, primary_key=True),
    sa.Column("transfer_syntax_uid", UID, primary_key=True),
    sa.Column("is_accepted", sa.Boolean, nullable=False),
    sa.Column("noted_at", UtcDateTime, nullable=False),
)

verdicts = sa.Table(
    "verdicts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("job_id", sa.ForeignKey("jobs.id"), nullable=False),
    sa.Column("stack_number", sa.Integer, nullable=False),
    sa.Column("verdict", WORD, nullable=False),
    sa.Column("probability", sa.Float, nullable=False),
    sa.Column("reasons", sa.Text, nullable=False),  # JSON
    sa.Column("remark_codes", sa.Text, nullable=False, server_default="[]"),  # JSON list
    sa.Column("report", sa.Text, nullable=False),  # JSON
    sa.Column("found_at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("job_id", "stack_number"),
)

tags = sa.Table(
    "tags",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study_instance_uid", UID, sa.ForeignKey("studies.study_instance_uid"), nullable=False),
    sa.Column("series_instance_uid", UID, nullable=False),  # "" for the study itself, so that the key is unique
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("set_by", sa.Text, nullable=False),
    sa.Column("set_at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("study_instance_uid", "series_instance_uid", "name"),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),  # JSON
    sa.Column("occurred_at", UtcDateTime, nullable=False),
    sa.Index(None, "subject", "action"),
)

audit_chain = sa.Table(
    "audit_chain",  # each digest covers an entry and the digest before; triggers refuse to change entries and chain
    metadata,
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("audit_id", sa.ForeignKey("audit.id"), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Index(None, "audit_id", unique=True),
)

audit_forwarding = sa.Table(
    "audit_forwarding",  # up to where the chain was sent to a receiver
    metadata,
    sa.Column("target", sa.String(255), primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
)

decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study_instance_uid", UID, sa.ForeignKey("studies.study_instance_uid"), nullable=False),
    sa.Column("kind", WORD, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("decided_by", sa.Text, nullable=False),
    sa.Column("evidence_fingerprint", sa.String(64), nullable=False),
    sa.Column("decided_at", UtcDateTime, nullable=False),
    sa.Index(None, "study_instance_uid", "decided_at"),
)

exports = sa.Table(
    "exports",  # no reference to `studies`: a row outlives the deletion of its study, so that people can be told
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study_instance_uid", UID, nullable=False),
    sa.Column("copy_study_instance_uid", UID, nullable=False),
    sa.Column("project", sa.Text, nullable=False),
    sa.Column("key_fingerprint", sa.String(64), nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("state", WORD, nullable=False),
    sa.Column("evidence_fingerprint", sa.String(64), nullable=False),
    sa.Column("gate_digest", sa.String(64), nullable=False),
    sa.Column("content_digest", sa.String(64), nullable=False),
    sa.Column("n_instances", sa.Integer, nullable=False),
    sa.Column("began_at", UtcDateTime, nullable=False),
    sa.Column("published_at", UtcDateTime, nullable=True),
    sa.Column("withdrawn_at", UtcDateTime, nullable=True),
    sa.Column("withdrawn_because", sa.Text, nullable=True),
    sa.UniqueConstraint("study_instance_uid", "key_fingerprint", "target", name="uq_exports_study"),
    sa.Index(None, "state"),
)

export_copies = sa.Table(
    "export_copies",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("export_id", sa.ForeignKey("exports.id"), nullable=False),
    sa.Column("sop_instance_uid", UID, nullable=False),  # of the copy
    sa.Column("sha256", sa.String(64), nullable=False),  # of the copy's file
    sa.Column("has_arrived", sa.Boolean, nullable=False),
    sa.UniqueConstraint("export_id", "sop_instance_uid"),
)

# No foreign keys below: what was said about a study stays known, and can be taken back, when the study is deleted.
announcements = sa.Table(
    "announcements",  # states of studies, after rules and decisions; rows are only ever added
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study_instance_uid", UID, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),  # grows with every row of a study
    sa.Column("state", WORD, nullable=False),
    sa.Column("decided_by", WORD, nullable=True),  # "rules" or "person"; NULL while it is open
    sa.Column("standings", sa.Text, nullable=False),  # JSON: standing of a series → number of series
    sa.Column("evidence_fingerprint", sa.String(64), nullable=True),
    sa.Column("gate_digest", sa.String(64), nullable=False),
    sa.Column("since", UtcDateTime, nullable=False),
    sa.UniqueConstraint("study_instance_uid", "version"),
)

notices = sa.Table(
    "notices",  # the newest state that a target is to be told, and what it was told last
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study_instance_uid", UID, nullable=False),
    sa.Column("target", sa.String(64), nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),  # of the newest announcement
    sa.Column("told_version", sa.BigInteger, nullable=True),
    sa.Column("told_state", WORD, nullable=True),
    sa.Column("told_at", UtcDateTime, nullable=True),
    sa.Column("state", WORD, nullable=False),
    sa.Column("attempt_number", sa.Integer, nullable=False),
    sa.Column("owner", sa.Text, nullable=True),
    sa.Column("lease_expires_at", UtcDateTime, nullable=True),
    sa.Column("retry_at", UtcDateTime, nullable=True),
    sa.Column("error_code", sa.Text, nullable=True),
    sa.Column("error_message", sa.Text, nullable=True),
    sa.UniqueConstraint("study_instance_uid", "target"),
    sa.Index(None, "target", "state", "id"),
)

access_tokens = sa.Table(
    "access_tokens",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),  # the public part of a token
    sa.Column("person", sa.Text, nullable=False),
    sa.Column("role", WORD, nullable=False),
    sa.Column("secret_digest", sa.String(64), nullable=False),  # SHA-256 of the secret part
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False),
    sa.Column("revoked_at", UtcDateTime, nullable=True),
    sa.Column("last_used_at", UtcDateTime, nullable=True),  # to the hour
)

web_sessions = sa.Table(
    "web_sessions",  # of people who signed in to the page
    metadata,
    sa.Column("secret_digest", sa.String(64), primary_key=True),  # SHA-256 of the cookie
    sa.Column("person", sa.Text, nullable=False),
    sa.Column("role", WORD, nullable=False),
    sa.Column("token_id", sa.ForeignKey("access_tokens.id"), nullable=True),  # by which they signed in
    sa.Column("began_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False),
    sa.Index(None, "expires_at"),
)
