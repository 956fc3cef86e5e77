"""Who uploads under which role: names in the audit trail, and nothing of a patient for those who may only store."""

from __future__ import annotations

import pytest

from tests.access.conftest import LockedNode
from tests.factories import ct_series
from tests.page.conftest import hostile


@pytest.mark.parametrize(("role", "may_read"), [("sender", False), ("reviewer", True)])
def test_who_may_only_store_learns_nothing_of_the_study(node: LockedNode, role: str, may_read: bool) -> None:
    series = ct_series(1, seed=f"by {role}", edit=hostile)
    with node.client(role) as client:
        for result in ("stored", "known"):
            headers = {"Content-Type": "application/dicom"}
            answer = client.post("/api/upload", content=next(iter(series)).part10, headers=headers)
            assert answer.json()["counts"][result] == 1
            (study,) = answer.json()["studies"]
            assert study["study_instance_uid"] == series.study_instance_uid
            assert bool(study["patient_name"]) is may_read
            assert bool(study["patient_id"]) is may_read
    assert (f"the {role}", series.study_instance_uid) in node.audited("uploaded")


def test_a_viewer_is_not_offered_to_upload(node: LockedNode) -> None:
    with node.client("viewer") as viewer, node.client("reviewer") as reviewer:
        assert ">Upload</a>" not in viewer.get("/").text
        assert viewer.get("/upload").status_code == 403
        assert ("the viewer", "GET /upload") in node.audited("not-permitted")
        assert ">Upload</a>" in reviewer.get("/").text
