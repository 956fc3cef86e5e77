"""A report as text: what a person reads on the command line and on the web page."""

from __future__ import annotations

from typing import Any

from dicom_node.report_text import report_text

REPORT: dict[str, Any] = {
    "name": "1.2.3",
    "series_instance_uid": "1.2.3",
    "generation": 2,
    "stack_number": 1,
    "stack_name": "KVP 80",
    "n_stacks": 2,
    "modality": "CT",
    "shape": [120, 512, 400],
    "n_frames": 118,
    "spacing_mm": [1.0, 0.5, 0.488281],
    "verdict": "defaced",
    "probability": 0.9312,
    "reasons": ["anonymised area on 93% of the face's front, 240 mL there"],
    "foreground_ml": 4000.5,
    "anonymized_ml": 240.1,
    "segments": [
        {"role": "foreground", "is_found": True, "segment_number": 1, "volume_ml": 4000.5, "decided_by": "network"},
        {"role": "anonymized", "is_found": True, "segment_number": 2, "volume_ml": 240.1, "decided_by": "fill value"},
    ],
    "remarks": [{"code": "tilted", "text": "slices lean"}, {"code": "several-stacks", "text": "2 stacks"}],
    "models": [{"role": "foreground", "name": "body", "version": "1", "sha256": "ab" * 32}],
    "objects": [{"sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.33", "sop_instance_uid": "2.25.7"}],
    "pipeline_digest": "cd" * 32,
    "node_version": "0.1.0",
    "complete_because": "all 118 instances that archive has",
}


def test_a_report_says_who_found_what_and_why() -> None:
    assert report_text(REPORT) == (
        "1.2.3, CT, stack 1 of 2 (KVP 80)\n"
        "  verdict:         defaced (the anonymised area covers the face), probability 0.93\n"
        "  because:         anonymised area on 93% of the face's front, 240 mL there\n"
        "  foreground:      4000.5 mL, segment 1, by network\n"
        "  anonymised area: 240.1 mL, 6.0 % of the foreground, segment 2, by fill value\n"
        "  volume:          120 x 512 x 400 voxels of 1 x 0.5 x 0.488281 mm, from 118 frames\n"
        "  complete:        all 118 instances that archive has\n"
        "  remarks:         tilted: slices lean\n"
        "                   several-stacks: 2 stacks\n"
        "  models:          foreground: body 1, abababababababab\n"
        "  objects:         SR 2.25.7\n"
        "  pipeline:        cdcdcdcdcdcdcdcd, dicom-node 0.1.0, generation 2\n"
    )


def test_nothing_found_is_said() -> None:
    empty = [{"role": role, "is_found": False, "segment_number": None, "volume_ml": 0.0} for role in ("foreground",)]
    assert "  foreground: nothing found\n" in report_text({"name": "head", "segments": empty})


def test_a_report_of_an_earlier_version_that_lacks_parts_is_text_too() -> None:
    assert report_text({"name": "head", "verdict": "defaced"}).splitlines() == [
        "head, unknown modality, stack 1 of 1",
        "  verdict: defaced (the anonymised area covers the face)",
    ]


def test_a_control_character_does_not_reach_the_terminal() -> None:
    assert "\x1b" not in report_text({"name": "\x1b[2J", "reasons": ["\x1b[31m"]})
