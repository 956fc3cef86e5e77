"""Loaded by a Dask worker at its start: it kills itself, hangs or waits at the moment that its environment names."""

from __future__ import annotations

import os
import time
from typing import Any

from dicom_node import processing
from tests.crash.parts import end_at

MOMENT, SLOW_S = "TEST_MOMENT", "TEST_SLOW_S"

if moment := os.environ.get(MOMENT):
    end_at(moment)
if seconds := os.environ.get(SLOW_S):
    compute = processing.process_series

    def slowly(*args: Any, **options: Any) -> Any:
        time.sleep(float(seconds or 0))
        return compute(*args, **options)

    processing.process_series = slowly
