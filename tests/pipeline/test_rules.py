"""The rules file: what it may say, and what its errors say."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.pipeline.errors import RulesError
from dicom_node.pipeline.rules import Action, default_rules_text, load_rules
from inference.series.stack_choice import DEFAULT_POLICY, StackChoice

ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path, text: str) -> Path:
    path = folder / "rules.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_default_rules_are_the_ones_in_config() -> None:
    assert (ROOT / "config" / "rules" / "default.yaml").read_text(encoding="utf-8") == default_rules_text()


def test_the_default_rules_load_and_end_with_a_rule_that_takes_everything() -> None:
    rules = load_rules(None, peer_names=())
    assert rules.series[-1].action is Action.PROCESS
    assert not rules.series[-1].when
    assert rules.study.face_present == "blocked"
    assert rules.study.only_not_applicable == "review"


def test_a_peer_of_a_rule_must_be_configured(tmp_path: Path) -> None:
    path = write(tmp_path, "series: [{name: all, action: process, deliver_to: [pacs, archve]}]")
    with pytest.raises(
        RulesError, match=r"series\.0\.deliver_to: no peer is named 'archve'; known peers: archive, pacs"
    ):
        load_rules(path, peer_names=("pacs", "archive"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("series: []", r"series: .*at least 1"),
        ("series: [{name: a, action: process}, {name: a, action: process}]", "two rules are named 'a'"),
        ("series: [{name: a, action: drop}]", r"series\.0\.action: .*'process' or 'skip' \(found 'drop'\)"),
        ("series: [{name: a, action: skip}]", "says why, in reason"),
        ("series: [{name: a, action: skip, reason: r, deliver_to: [p]}]", "a series that is skipped has no results"),
        (
            "series: [{name: a, action: process, peers: [p]}]",
            r"series\.0\.peers: unknown key; known here: name, when, action, reason, deliver_to",
        ),
        (
            "series: [{name: a, action: process, when: {ImageTyp: {equals: X}}}]",
            r"series\.0\.when\.ImageTyp: 'ImageTyp' is no keyword of the standard",
        ),
        (
            "series: [{name: a, action: process, when: {PixelData: {exists: true}}}]",
            "PixelData holds no text or number",
        ),
        (
            "series: [{name: a, action: process, when: {Modality: {equal: CT}}}]",
            r"series\.0\.when\.Modality\.equal: unknown key; known here: equals, in, contains",
        ),
        ("series: [{name: a, action: process}]\nstudy: {failed: cleared}", r"study\.failed: .*\(found 'cleared'\)"),
        ("series: [{name: a, action: process}]\nstudy: {face: review}", r"study\.face: unknown key; known here: face_"),
        ("series: [", "is not valid YAML"),
        ("- a\n- b", "valid dictionary or instance of Rules"),
    ],
)
def test_an_error_names_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(RulesError, match=message) as caught:
        load_rules(path, peer_names=())
    assert str(caught.value).startswith(str(path))


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match="no such file"):
        load_rules(tmp_path / "absent.yaml", peer_names=())


def test_the_digest_follows_what_the_rules_say_and_not_how(tmp_path: Path) -> None:
    plain = load_rules(write(tmp_path, "series: [{name: a, action: process}]"), peer_names=())
    commented = load_rules(write(tmp_path, "# why\nseries:\n  - action: process\n    name: a\n"), peer_names=())
    stricter = load_rules(
        write(tmp_path, "series: [{name: a, action: process}]\nstudy: {failed: blocked}"), peer_names=()
    )
    other = load_rules(write(tmp_path, "series: [{name: b, action: process}]"), peer_names=())
    assert plain.digest == commented.digest == stricter.digest != other.digest


@pytest.mark.parametrize(
    ("stacks", "expected"),
    [
        ("all", (StackChoice.ALL,)),
        ("[lowest-b-value, first]", (StackChoice.LOWEST_B_VALUE, StackChoice.FIRST)),
    ],
)
def test_a_rule_says_which_stacks_are_run_and_the_digest_follows(
    tmp_path: Path, stacks: str, expected: tuple[StackChoice, ...]
) -> None:
    silent = load_rules(write(tmp_path, "series: [{name: a, action: process}]"), peer_names=())
    assert silent.series[0].stacks == DEFAULT_POLICY
    text = f"series: [{{name: a, action: process, stacks: {stacks}}}]"
    said = load_rules(write(tmp_path, text), peer_names=())
    assert said.series[0].stacks == expected
    assert said.digest != silent.digest


def test_stacks_have_known_names_and_belong_to_series_that_are_run(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match=r"stacks\.0: .*'first-of-repeats'.*found 'some'"):
        load_rules(write(tmp_path, "series: [{name: a, action: process, stacks: some}]"), peer_names=())
    with pytest.raises(RulesError, match="stacks needs action: process"):
        load_rules(write(tmp_path, "series: [{name: a, action: skip, reason: r, stacks: all}]"), peer_names=())
