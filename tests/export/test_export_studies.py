"""``export``: which studies leave a node, whole or not at all, and what the manifest says of the others."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from dicom_node.export import targets, workers
from dicom_node.gate.judging import study_decision
from dicom_node.store import DecisionKind, ExportState, NewExport, NewVerdict, Outcome, Skip, Store
from tests.arrivals import receive
from tests.export.clearing import DIGEST, NAMES, NOW, RULES, copies, export, looked_at, outcomes, patient, say
from tests.factories import ct_series
from tests.store.sending import closing


def test_exactly_the_cleared_studies_leave_with_their_seg_and_the_others_have_a_reason(
    store: Store, tmp_path: Path
) -> None:
    cleared = looked_at(store, "defaced", "a")
    blocked = looked_at(store, "face_present", "b")
    doubtful = looked_at(store, "indeterminate", "c")
    content = export(store, tmp_path / "out")
    assert outcomes(content) == {
        NAMES.mapped_uid(cleared.study_instance_uid): "exported",
        NAMES.mapped_uid(blocked.study_instance_uid): "not-cleared",
        NAMES.mapped_uid(doubtful.study_instance_uid): "not-cleared",
    }
    found = [dcmread(path) for path in copies(tmp_path / "out")]
    assert {str(ds.StudyInstanceUID) for ds in found} == {NAMES.mapped_uid(cleared.study_instance_uid)}
    assert sorted(ds.Modality for ds in found) == ["CT", "CT", "CT", "SEG"]
    images = {str(ds.SOPInstanceUID) for ds in found if ds.Modality == "CT"}
    (seg,) = (ds for ds in found if ds.Modality == "SEG")
    references = {
        str(item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID)
        for item in seg.PerFrameFunctionalGroupsSequence
    }
    assert references <= images
    assert {ds.get("RecognizableVisualFeatures") for ds in found if ds.Modality == "CT"} == {"NO"}
    text = json.dumps(content)
    for secret in ("MRN-123456", "Zyxwvut", cleared.study_instance_uid, blocked.study_instance_uid):
        assert secret not in text


def test_a_manifest_is_written_when_nothing_may_go(store: Store, tmp_path: Path) -> None:
    looked_at(store, "face_present")
    content = export(store, tmp_path / "out")
    assert content["counts"]["copied"] == 0
    assert json.loads((tmp_path / "out" / "manifest.json").read_text()) == content
    assert copies(tmp_path / "out") == []


def test_a_dry_run_says_the_same_and_publishes_nothing(store: Store, tmp_path: Path) -> None:
    looked_at(store, "defaced")
    content = export(store, tmp_path / "out", is_dry_run=True)
    assert list(outcomes(content).values()) == ["would-be-exported"]
    assert content["counts"]["copied"] == 4
    assert copies(tmp_path / "out") == []
    assert store.audit.list() == ()


def test_a_late_slice_while_it_is_de_identified_keeps_the_study_in(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = looked_at(store, "defaced")
    late = ct_series(n_slices=1, seed="late", edit=patient)
    copy = workers.write_copy

    def slow(*arguments: object, **options: object) -> object:
        monkeypatch.setattr(workers, "write_copy", copy)
        (one,) = late
        receive(store, [one.edited(lambda ds: setattr(ds, "StudyInstanceUID", series.study_instance_uid))], at=NOW)
        return copy(*arguments, **options)

    monkeypatch.setattr(workers, "write_copy", slow)
    content = export(store, tmp_path / "out")
    assert list(outcomes(content).values()) == ["changed-meanwhile"]
    assert copies(tmp_path / "out") == []


def test_a_hold_that_comes_while_it_is_de_identified_keeps_the_study_in(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = looked_at(store, "defaced")
    copy = workers.write_copy

    def slow(*arguments: object, **options: object) -> object:
        monkeypatch.setattr(workers, "write_copy", copy)
        say(store, series, DecisionKind.HOLD)
        return copy(*arguments, **options)

    monkeypatch.setattr(workers, "write_copy", slow)
    assert list(outcomes(export(store, tmp_path / "out")).values()) == ["changed-meanwhile"]
    assert copies(tmp_path / "out") == []


def test_a_release_lets_a_study_go_and_the_manifest_names_nobody(store: Store, tmp_path: Path) -> None:
    series = looked_at(store, "indeterminate")
    say(store, series, DecisionKind.RELEASE)
    content = export(store, tmp_path / "out")
    assert list(outcomes(content).values()) == ["exported"]
    assert "Ann" not in json.dumps(content)


def test_a_scout_is_not_exported_with_a_cleared_study(store: Store, tmp_path: Path) -> None:
    series = looked_at(store, "defaced")
    scout = ct_series(n_slices=1, seed="scout", edit=patient)
    (one,) = scout
    receive(store, [one.edited(lambda ds: setattr(ds, "StudyInstanceUID", series.study_instance_uid))], at=NOW)
    row = store.series.get(scout.series_instance_uid)
    store.closing.complete(row, closing(Skip("rule-scout: few slices")), NOW)
    store.studies.decide(series.study_instance_uid, study_decision(RULES, DIGEST), NOW)
    export(store, tmp_path / "out")
    exported = {str(dcmread(path).SeriesInstanceUID) for path in copies(tmp_path / "out")}
    assert NAMES.mapped_uid(scout.series_instance_uid) not in exported
    assert NAMES.mapped_uid(series.series_instance_uid) in exported


def test_a_study_whose_sources_retention_deleted_is_named(store: Store, tmp_path: Path) -> None:
    series = looked_at(store, "defaced")
    assert store.retention.delete_sources(store.series.get(series.series_instance_uid), NOW)
    store.studies.decide(series.study_instance_uid, study_decision(RULES, DIGEST), NOW)
    assert list(outcomes(export(store, tmp_path / "out")).values()) == ["sources-deleted"]


def test_37_a_study_whose_copy_still_holds_something_of_the_patient_is_quarantined_and_the_others_go(
    store: Store, tmp_path: Path
) -> None:
    looked_at(store, "defaced", "good")

    def numbered_like_the_series(ds: Dataset, index: int) -> None:
        patient(ds, index)
        ds.PatientID, ds.SeriesNumber = "480123", 480123

    bad = ct_series(n_slices=2, seed="bad", edit=numbered_like_the_series)
    receive(store, bad, at=NOW)
    store.closing.complete(store.series.get(bad.series_instance_uid), closing(digest=DIGEST), NOW)
    job = store.jobs.claim("w", NOW, 60, pipeline_digest=DIGEST)
    assert job is not None
    outcome = Outcome(verdicts=(NewVerdict(1, "defaced", 0.9, (), frozenset(), {}),))
    store.jobs.succeed(job.id, "w", outcome, NOW, decide_study=study_decision(RULES, DIGEST))
    content = export(store, tmp_path / "out")
    assert sorted(outcomes(content).values()) == ["exported", "quarantined"]
    studies = {str(dcmread(path).StudyInstanceUID) for path in copies(tmp_path / "out")}
    assert NAMES.mapped_uid(bad.study_instance_uid) not in studies


def test_a_cohort_names_what_it_asks_for_and_an_unknown_study_has_a_reason(store: Store, tmp_path: Path) -> None:
    wanted = looked_at(store, "defaced", "a")
    looked_at(store, "defaced", "b")
    content = export(store, tmp_path / "out", cohort=[wanted.study_instance_uid, "1.2.3.404"])
    assert outcomes(content) == {
        NAMES.mapped_uid(wanted.study_instance_uid): "exported",
        NAMES.mapped_uid("1.2.3.404"): "unknown-study",
    }


def test_the_same_cohort_again_makes_the_same_bytes_and_no_second_object(store: Store, tmp_path: Path) -> None:
    looked_at(store, "defaced")
    export(store, tmp_path / "out")
    first = {path: path.read_bytes() for path in copies(tmp_path / "out")}
    export(store, tmp_path / "out")
    assert {path: path.read_bytes() for path in copies(tmp_path / "out")} == first


def test_a_run_that_was_killed_before_its_manifest_is_completed_by_the_next(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at(store, "defaced", "a")
    looked_at(store, "defaced", "b")
    publish = targets.publish

    def killed(staged: Path, target: Path) -> None:
        publish(staged, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(targets, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        export(store, tmp_path / "out")
    whole = len(copies(tmp_path / "out"))
    assert whole == 4
    monkeypatch.setattr(targets, "publish", publish)
    content = export(store, tmp_path / "out")
    assert list(outcomes(content).values()) == ["exported", "exported"]
    assert len(copies(tmp_path / "out")) == 8


def test_what_left_is_remembered_with_the_evidence_and_the_name_of_the_copy(store: Store, tmp_path: Path) -> None:
    series = looked_at(store, "defaced")
    export(store, tmp_path / "out")
    (row,) = store.exports.list()
    assert row.state is ExportState.PUBLISHED
    assert row.copy_study_instance_uid == NAMES.mapped_uid(series.study_instance_uid)
    assert row.evidence_fingerprint == store.studies.evidence(series.study_instance_uid).fingerprint
    assert row.target == f"folder:{(tmp_path / 'out').resolve()}"
    assert [entry.action for entry in store.audit.list()] == ["exported"]


def test_36_a_full_disk_keeps_one_study_in_and_the_others_go(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at(store, "defaced", "a")
    looked_at(store, "defaced", "b")
    copy = workers.write_copy
    calls: list[object] = []

    def full_once(*arguments: object, **options: object) -> object:
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return copy(*arguments, **options)

    monkeypatch.setattr(workers, "write_copy", full_once)
    content = export(store, tmp_path / "out")
    assert sorted(outcomes(content).values()) == ["exported", "no-space"]
    assert content["counts"]["in"] == content["counts"]["copied"] + content["counts"]["held_back"]
    assert len(copies(tmp_path / "out")) == 4
    assert not (tmp_path / "out" / ".staging").exists()


def test_an_object_that_the_store_has_lost_keeps_its_study_in_and_the_others_go(store: Store, tmp_path: Path) -> None:
    looked_at(store, "defaced", "a")
    series = looked_at(store, "defaced", "b")
    (row, *_) = store.series.instances(series.series_instance_uid)
    store.objects.path(row.digest).unlink()
    content = export(store, tmp_path / "out")
    assert sorted(outcomes(content).values()) == ["exported", "sources-lost"]
    assert len(copies(tmp_path / "out")) == 4


def test_two_processes_make_the_same_files_as_one(store: Store, tmp_path: Path) -> None:
    looked_at(store, "defaced")
    one = export(store, tmp_path / "one")
    two = export(store, tmp_path / "two", workers=2)
    assert one["instances"] == two["instances"]


def test_a_study_that_changes_at_the_last_moment_leaves_no_trace_of_an_export(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = looked_at(store, "defaced")
    begin = store.exports.begin

    def begin_and_hold(*arguments: object) -> object:
        begun = begin(*arguments)  # type: ignore[arg-type]
        say(store, series, DecisionKind.HOLD)
        return begun

    monkeypatch.setattr(store.exports, "begin", begin_and_hold)
    content = export(store, tmp_path / "out")
    (study,) = content["studies"]
    assert (study["outcome"], study["reason"]) == (
        "changed-meanwhile",
        "something arrived or was decided just before it was published",
    )
    assert (copies(tmp_path / "out"), store.exports.list()) == ([], ())
    assert [row.action for row in store.audit.list()] == ["decided"]


def test_an_export_whose_content_has_changed_counts_as_published_only_when_it_was(store: Store, tmp_path: Path) -> None:
    looked_at(store, "defaced")
    export(store, tmp_path / "out")
    (row,) = store.exports.list()
    known = NewExport(**{name: getattr(row, name) for name in NewExport.__dataclass_fields__})
    same = store.exports.begin(known, lambda *_: True, NOW)
    changed = store.exports.begin(replace(known, content_digest="0" * 64), lambda *_: True, NOW)
    assert same is not None
    assert changed is not None
    assert (same.state, changed.state) == (ExportState.PUBLISHED, ExportState.SENDING)
