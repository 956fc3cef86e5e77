"""The comparison of loaders: what is counted, and that our side of it runs on a dataset."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.loaders.__main__ import anatomask_source, nnssl_python, report
from benchmarks.loaders.measure import N_BATCHES, N_WARM, cpu_s, measure
from benchmarks.loaders.steps import batches, our_step, plan
from pretraining import volume_fusion

BUSY_S = 0.005


def busy_batches() -> Iterator[int]:
    for number in itertools.count():
        until = time.process_time() + BUSY_S
        while time.process_time() < until:
            pass
        yield number


def test_patches_and_processor_seconds_are_counted_after_the_first_batches() -> None:
    made = busy_batches()
    found = measure(made, n_patches=2)
    assert next(made) == N_WARM + N_BATCHES
    assert found["cpu_s_per_patch"] == pytest.approx(BUSY_S / 2, rel=0.5)  # the kernel counts hundredths of a second
    assert found["patches_per_s"] <= 2 / BUSY_S


def test_processor_time_of_started_processes_counts() -> None:
    program = "import time\nwhile time.process_time() < 0.2: pass\nprint('done', flush=True)\ntime.sleep(60)"
    before = cpu_s()
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        used = cpu_s() - before
        child.kill()
    assert used > 0.15


def test_a_step_of_ours_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.loaders.steps.SIDE", 16)
    method = volume_fusion.build(volume_fusion.Options(), plan(), use_masks=True)
    before = [parameter.detach().clone() for parameter in method.module.parameters()]
    our_step(method, batches(method, 1))(0)
    assert any((old != new).any() for old, new in zip(before, method.module.parameters(), strict=True))


def test_the_report_has_a_row_for_each() -> None:
    told = report(
        {"ours": {"patches_per_s": 10.0, "cpu_s_per_patch": 0.2}}, {"anatomask": {"ours": 1.0, "other": 1.25}}
    )
    assert "| ours | 10.00 | 0.200 |" in told
    assert "| anatomask | 1.000 | 1.250 |" in told


def test_programs_that_are_not_there_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DICOM_NODE_TEST_NNSSL", str(tmp_path))
    monkeypatch.delenv("ANATOMASK_SOURCE", raising=False)
    assert (nnssl_python(), anatomask_source()) == (None, None)
    told = capsys.readouterr().err
    assert "make peers-nnssl" in told
    assert "ANATOMASK_SOURCE" in told
