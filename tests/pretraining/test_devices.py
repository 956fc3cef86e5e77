"""Precision and device are chosen so that runs on a CPU are exact."""

from __future__ import annotations

import pytest
import torch

from pretraining import devices
from pretraining.devices import DeviceChoice, Precision, Processes, choose_device, uses_bf16
from pretraining.errors import SettingRefused

CPU = torch.device("cpu")


def test_a_cpu_computes_in_float32_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_cpu_flags", lambda: frozenset({"avx512_bf16"}))
    assert not uses_bf16(Precision.AUTO, CPU)
    assert not uses_bf16(Precision.FP32, CPU)
    assert uses_bf16(Precision.BF16, CPU)


def test_bfloat16_is_refused_where_it_would_be_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_cpu_flags", lambda: frozenset({"avx2"}))
    with pytest.raises(SettingRefused, match="this CPU has no instructions for it"):
        uses_bf16(Precision.BF16, CPU)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device(DeviceChoice.AUTO, Processes(0, 2, 0)) == torch.device("cuda", 0)
    with pytest.raises(SettingRefused, match="--devices: this machine has 1 CUDA devices"):
        choose_device(DeviceChoice.AUTO, Processes(1, 2, 1))
    assert choose_device(DeviceChoice.CPU, Processes(1, 2, 1)) == CPU
