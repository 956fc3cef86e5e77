"""Measure the page of an offline run with 10,000 volumes in Chromium: opening, sorting, filtering, memory.

Writes ``index.html`` as `segment` does, next to a folder with an overlay for each volume:

    python -m benchmarks.bench_offline_page --volumes 10000

Prints a Markdown table: time until the page was painted again, and processor time of the page's thread, which does not
depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import CDPSession

from dicom_node.offline.page import render_page
from tests.browser import start_browser

VERDICTS = ("defaced", "face_present", "indeterminate", "not_applicable")
# Time from a click until the page was laid out and painted again.
ACT = """async ([selector, value]) => {
  const element = document.querySelector(selector), began = performance.now();
  if (value === null) element.click();
  else { element.value = value; element.dispatchEvent(new Event("input", { bubbles: true })); }
  await new Promise(resolve => requestAnimationFrame(() => setTimeout(resolve, 0)));
  return performance.now() - began;
}"""
LOADED = "() => performance.getEntriesByType('navigation')[0].loadEventEnd"


def write_run(folder: Path, n_volumes: int) -> Path:
    """Write an index of many volumes and their overlays, which are one file; return the index."""
    drawing = random.Random(1)
    overlay = folder / "overlay.png"
    pixels = np.random.default_rng(1).integers(0, 255, (256, 768, 3), dtype=np.uint8)
    Image.fromarray(pixels // 32 * 32).save(overlay)
    volumes: list[dict[str, Any]] = []
    for number in range(n_volumes):
        name = f"sub-{number % 2500:04d}_ses-{number // 2500}_T1w"
        (folder / name).mkdir()
        os.link(overlay, folder / name / "overlay.png")
        (folder / name / "report.json").write_text("{}")
        volumes.append(
            {
                "name": name,
                "input": f"/data/project/sub-{number % 2500:04d}/ses-{number // 2500}/anat/{name}.nii.gz",
                "modality": drawing.choice(["MR", "CT"]),
                "verdict": drawing.choice(VERDICTS),
                "probability": drawing.random(),
                "foreground_ml": 1000 + 4000 * drawing.random(),
                "anonymized_ml": 500 * drawing.random(),
                "timings_s": {"segment foreground": 20 * drawing.random()},
            }
        )
    failed = [
        {"name": f"sub-{number:04d}_broken", "code": "slice-gap", "message": "step after slice 16 is 6.00 mm"}
        for number in range(n_volumes // 100)
    ]
    summary = {
        "node_version": "bench",
        "started_at": "2026-01-01T00:00:00+00:00",
        "ended_at": "2026-01-02T00:00:00+00:00",
        "models": [],
        "n_volumes": n_volumes,
        "n_failed": len(failed),
        "volumes": volumes,
        "failed": failed,
        "not_used": [],
    }
    index = folder / "index.html"
    with index.open("w", encoding="utf-8") as file:
        file.writelines(render_page(summary))
    return index


def metrics(devtools: CDPSession) -> dict[str, float]:
    """Return what Chromium counts of the page."""
    return {one["name"]: one["value"] for one in devtools.send("Performance.getMetrics")["metrics"]}


def cpu_ms(devtools: CDPSession) -> float:
    """Return the processor time of the page's thread so far."""
    return 1000 * metrics(devtools)["TaskDuration"]


def main() -> None:
    """Write, open, act and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-offline-") as name, start_browser() as browser:
        index = write_run(Path(name), arguments.volumes)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        devtools = page.context.new_cdp_session(page)
        devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.goto(index.as_uri(), wait_until="load", timeout=300_000)
        print(f"{arguments.volumes} volumes, {index.stat().st_size / 1e6:.1f} MB\n")
        print("| | wall ms | CPU ms |\n|---|---:|---:|")
        print(f"| open | {page.evaluate(LOADED):.0f} | {cpu_ms(devtools):.0f} |")
        for title, selector, value in (
            ("sort by name", "th:nth-child(2) button", None),
            ("sort by verdict", "th:nth-child(4) button", None),
            ("sort by volume", "th:nth-child(6) button", None),
            ("the same, descending", "th:nth-child(6) button", None),
            ("filter by verdict", "select[name=verdict]", "face_present"),
            ("name contains sub-12", "input[name=text]", "sub-12"),
            ("all again", "input[name=text]", ""),
        ):
            before_ms = cpu_ms(devtools)
            print(f"| {title} | {page.evaluate(ACT, [selector, value]):.0f} | {cpu_ms(devtools) - before_ms:.0f} |")
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        page.wait_for_timeout(2000)
        memory_mb = metrics(devtools)["JSHeapUsedSize"] / 1e6
        print(f"\n{metrics(devtools)['Nodes']:.0f} nodes, {memory_mb:.0f} MB of memory for scripts")
        print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
