"""De-identify a folder with dicom-anonymizer, called for every nested item too; run by a Python that has it.

    python other_anonymizer.py INPUT OUTPUT WORKERS

Writes one JSON line with seconds and the number of files. It reads, changes and writes each file, and verifies nothing.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from dicomanonymizer.simpledicomanonymizer import anonymize_dataset, initialize_actions  # type: ignore[import-not-found]
from pydicom import dcmread
from pydicom.dataset import Dataset

EDITION = "dicomfields_2026c"


def copy(names: tuple[Path, Path]) -> None:
    """Write a de-identified copy of the first file as the second."""
    source, target = names
    ds = dcmread(source)
    _anonymize(ds)
    ds.save_as(target)


def _anonymize(ds: Dataset) -> None:
    anonymize_dataset(ds, base_rules_gen=_actions)
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                _anonymize(item)


@cache
def _all_actions() -> dict[Any, Any]:
    actions: dict[Any, Any] = initialize_actions(EDITION)
    return actions


def _actions() -> dict[Any, Any]:
    return dict(_all_actions())  # made once: making it for each item would cost as much as the rest


def main(source: str, target: str, workers: str) -> None:
    """De-identify every file of a folder, and say how long it took."""
    Path(target).mkdir()
    pairs = [(path, Path(target, path.name)) for path in sorted(Path(source).iterdir())]
    began_at, cpu_at = time.perf_counter(), time.process_time()
    if int(workers) < 2:
        for pair in pairs:
            copy(pair)
    else:
        with ProcessPoolExecutor(int(workers)) as pool:
            list(pool.map(copy, pairs, chunksize=8))
    told = {"wall_s": time.perf_counter() - began_at, "cpu_s": time.process_time() - cpu_at, "n": len(pairs)}
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
