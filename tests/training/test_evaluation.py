"""Scores of masks with known answers, rows that come back as they were written, tables and cards made of them."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from inference.verdict.facts import SegmentationFacts
from training.atlas import BrainAtlas
from training.cards import fill_in, reliability, reliability_plot
from training.cohort import Cohort
from training.evaluate import evaluate, main, part_of
from training.evaluation.baselines import otsu_body, zero_run_mm
from training.evaluation.cases import COVERED, FACE, Case
from training.evaluation.measure import compare, dice, hd95_mm
from training.evaluation.rows import MaskScores, Row, read_rows
from training.evaluation.tables import foreground_tables, tool_table, untouched_table

SPACING_MM = (2.0, 1.0, 1.0)


def ball(radius_mm: float, centre: tuple[float, float, float] = (40.0, 40.0, 40.0)) -> np.ndarray:
    places = np.indices((40, 80, 80)) * np.array(SPACING_MM).reshape(3, 1, 1, 1)
    return np.linalg.norm(places - np.array(centre).reshape(3, 1, 1, 1), axis=0) <= radius_mm


def test_distance_of_surfaces_is_in_millimetres_and_counts_both_ways() -> None:
    assert hd95_mm(ball(20), ball(20), SPACING_MM) == 0.0
    assert hd95_mm(ball(20), ball(26), SPACING_MM) == pytest.approx(6.0, abs=1.0)
    assert hd95_mm(ball(26), ball(20), SPACING_MM) == pytest.approx(6.0, abs=1.0)
    assert hd95_mm(ball(20), np.zeros((40, 80, 80), bool), SPACING_MM) is None


def test_area_is_scored_inside_the_head_and_as_a_whole() -> None:
    head = ball(30)
    front = np.zeros_like(head)
    front[:, :30] = True
    case = Case("box", "MR", np.zeros(head.shape, np.float32), SPACING_MM, COVERED, head & ~front, head, front)
    exact = compare(case, head & ~front, front & head)
    assert exact.head_dice == 1.0
    assert exact.foreground_dice == 1.0
    assert exact.full_dice is not None
    assert exact.full_dice < 0.5  # the air in front was not found
    assert exact.area_ml == pytest.approx(np.count_nonzero(front & head) * 2.0 / 1000, abs=0.01)
    assert dice(np.zeros(3, bool), np.zeros(3, bool)) == 1.0


def test_the_heuristics_find_what_they_claim() -> None:
    rng = np.random.default_rng(0)
    slices, rows, columns = np.indices((100, 100, 80)) * np.array([2.0, 2.0, 2.0]).reshape(3, 1, 1, 1)
    head = ((rows - 110) ** 2 + (columns - 80) ** 2 < 70**2) & (slices > 10) & (slices < 190)
    voxels = (head * 300.0 + np.abs(rng.normal(0, 5, head.shape))).astype(np.float32)
    assert dice(otsu_body(voxels), head) > 0.98
    spacing_mm = (2.0, 2.0, 2.0)
    assert zero_run_mm(voxels, otsu_body(voxels), spacing_mm) == 0.0
    voxels[:50, :50] = 0.0
    assert zero_run_mm(voxels, otsu_body(voxels), spacing_mm) > 40.0


def scores(body: float | None, head: float | None, area_ml: float) -> MaskScores:
    return MaskScores(body, 1.0 if body else None, head, head, None, area_ml)


def made_row(condition: str, truth: str, coverage: float, *, dice_in_head: float | None = None) -> Row:
    facts = SegmentationFacts(
        4000.0, 250.0 * coverage, 220.0, upper_width_mm=155.0, window_share=0.9, coverage=coverage,
        face_ml=190.0 * coverage, recess_mm=50.0 * coverage - 10.0,
    )  # fmt: skip
    found = scores(0.99, dice_in_head, 250.0 * coverage)
    return Row(
        case="a", person="p", split="val", modality="MR", contrast="T1", condition=condition, truth=truth,
        is_defaced=truth == COVERED, network=found, result=found, otsu_dice=0.8, zero_run_mm=0.0, replaced_ml=0.0,
        decided_by="network", facts=asdict(facts), weights="w",
    )  # fmt: skip


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    row = made_row("quickshear", COVERED, 0.9, dice_in_head=0.97)
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(asdict(row)) + "\n" + json.dumps(asdict(replace(row, otsu_dice=None))) + "\n")
    assert read_rows(path, weights="w") == [row, replace(row, otsu_dice=None)]
    with pytest.raises(ValueError, match="other weights"):
        read_rows(path, weights="later")


def test_parts_of_a_split_are_measured_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    member = SimpleNamespace(entry=SimpleNamespace(id="a"))
    conditions = [f"tool {number}" for number in range(5)]
    drawn = [(member, SimpleNamespace(modality="MR", condition=condition)) for condition in conditions]
    monkeypatch.setattr("training.evaluate.all_cases", lambda _: iter(drawn))
    monkeypatch.setattr("training.evaluate.measure", lambda case, *_: made_row(case.condition, FACE, 0.0))
    models: Any = SimpleNamespace(specs={})
    found = [
        evaluate(
            Cohort((), BrainAtlas(np.zeros((1, 1, 1), np.float32), np.eye(4))),
            models,
            tmp_path / f"{part}.jsonl",
            part=(part, 2),
        )
        for part in (0, 1)
    ]
    assert [[row.condition for row in rows] for rows in found] == [conditions[0::2], conditions[1::2]]


def test_a_part_is_named_by_its_number_and_that_of_all_parts() -> None:
    assert [part_of("1/1"), part_of("2/3")] == [(0, 1), (1, 3)]
    for wrong in ("0/2", "3/2", "2", "1/0"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"'{wrong}' is no part"):
            part_of(wrong)


def test_a_wrong_part_is_refused_by_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["evaluate", "--data", "d", "--work", "w", "--out", "o", "--part", "3/2"])
    with pytest.raises(SystemExit):
        main()
    assert "argument --part: '3/2' is no part: expected K/N" in capsys.readouterr().err


def test_tables_show_median_and_worst_and_what_was_not_found() -> None:
    rows = [made_row("quickshear", COVERED, 0.9, dice_in_head=value) for value in (0.2, 0.97, 0.99)]
    assert "| quickshear | 3 | 0.970 / 0.200 | 0.970 / 0.200 | 0.720 |" in tool_table(rows)
    assert tool_table(rows).endswith("| 2 |")
    assert "| MR, intact | 1 |" in untouched_table([made_row("intact", FACE, 0.0), *rows])
    assert "MR, after a simulated tool" in foreground_tables(rows)


def test_only_the_marked_parts_of_a_card_are_written_again() -> None:
    card = "prose\n<!-- begin tools val -->\nold\n<!-- end tools val -->\nmore prose\n"
    filled = fill_in(card, {"tools val": "new"})
    assert filled == "prose\n<!-- begin tools val -->\n\nnew\n\n<!-- end tools val -->\nmore prose\n"
    assert fill_in(filled, {"tools val": "new"}) == filled
    with pytest.raises(KeyError, match="tools val"):
        fill_in(card, {})


def test_reliability_compares_what_is_said_with_what_is_right(tmp_path: Path) -> None:
    rows = [made_row("intact", FACE, 0.0)] * 9 + [made_row("shell", COVERED, 0.0)]
    points = reliability(rows)
    assert sum(n for _, _, n in points) == 10
    assert sum(right * n for _, right, n in points) == pytest.approx(9)
    reliability_plot(rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000
