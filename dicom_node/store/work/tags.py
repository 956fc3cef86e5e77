"""Tags of studies and series: the newest value of each name; values that were replaced are in the audit trail."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from dicom_node.store.schema import tags
from dicom_node.store.work.audit import add_audit


def set_tag(
    connection: sa.Connection,
    *,
    study_instance_uid: str,
    series_instance_uid: str,
    name: str,
    value: str,
    set_by: str,
    now: datetime,
) -> None:
    """Set a tag within the caller's write transaction; ``series_instance_uid`` is empty for the study itself."""
    key = {"study_instance_uid": study_instance_uid, "series_instance_uid": series_instance_uid, "name": name}
    values = {"value": value, "set_by": set_by, "set_at": now}
    before = connection.execute(sa.select(tags.c.value, tags.c.set_by).filter_by(**key)).one_or_none()
    if before is None:
        connection.execute(sa.insert(tags).values(**key, **values))
        return
    connection.execute(sa.update(tags).filter_by(**key).values(**values))
    if before.value != value:
        detail = {"name": name, "before": before.value, "before_set_by": before.set_by, "after": value}
        subject = series_instance_uid or study_instance_uid
        add_audit(connection, "tag-replaced", actor=set_by, subject=subject, now=now, detail=detail)
