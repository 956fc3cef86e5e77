"""Some dozens of mixed series, through ``segment`` and through a running node; ``make soak`` takes them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.cases import all_cases
from tests.soak.soak import soak
from tests.soak.ways import Outcome, disagreement

EVERY = 6  # of the synthetic series; no divisor of the number of orientations, so that all kinds are met
# Damaged, of other kinds, incomplete, with several stacks, without meta information: small ones of each.
GROUPS = (
    "hostile_orthanc", "hostile_pydicom", "hostile_ruby", "dicomdir_philips_dirfile", "mr_siemens_16echo",
    "mr_enh_nopixeldata", "mr_enh_siemens_xa10_4d", "mr_philips_mixed_orient", "neg_rt_objects", "sr_siemens_phoenix",
    "ct_16_transfer_syntaxes", "mr_hitachi_echelon_dblobl",
)  # fmt: skip


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_synthetic_series_end_as_expected_both_ways(tmp_path: Path) -> None:
    cases = list(all_cases())
    assert len({case.name for case in cases}) == len(cases) > 150
    soaked = soak(tmp_path, cases[::EVERY], (), quiet_s=2.0, timeout_s=600)
    assert soaked.problems == ()
    assert sum(outcome.n_volumes for outcome in soaked.node.values()) > 10


@pytest.mark.data
@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_real_odd_objects_end_with_a_reason_both_ways(shared_data: Path, tmp_path: Path) -> None:
    archives = [shared_data / "dicom" / f"{group}.tar.xz" for group in GROUPS]
    soaked = soak(tmp_path, (), archives, quiet_s=2.0, timeout_s=600)
    assert soaked.problems == ()
    assert len(soaked.node) > 40


@pytest.mark.parametrize(
    ("offline", "node", "agrees"),
    [
        (Outcome(2), Outcome(2), True),
        (Outcome(2), Outcome(1), False),
        (Outcome(1), Outcome(0, {"slice-gap"}), False),
        (Outcome(0, {"slice-gap"}), Outcome(0, {"slice-gap"}), True),
        (Outcome(0, {"slice-gap"}), Outcome(0, {"too-few-slices"}), False),
        (Outcome(0, {"conflicting-instance"}), Outcome(1, {"0xB000"}), True),
        (Outcome(0, {"uid-missing"}), Outcome(0, {"store-refused"}), True),
        (Outcome(0, {"uid-missing"}), Outcome(0), False),
        (Outcome(1), Outcome(0, {"rule-localiser"}), True),
    ],
)
def test_ways_that_disagree_are_found(offline: Outcome, node: Outcome, agrees: bool) -> None:
    assert (disagreement(offline, node) is None) is agrees
