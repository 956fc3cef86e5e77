"""The demo from start to end: render, serve, send, wait, fetch, draw."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from dicom_node.demo.errors import DemoError
from dicom_node.demo.node import DemoNode, running_node
from dicom_node.demo.series import DemoSeries, render_demo_series, write_series
from dicom_node.demo.transfer import fetch_segmentations, mask_of, send_by_c_store
from dicom_node.overlay import draw_overlay
from dicom_node.report import caption, encode_report
from dicom_node.store import JobState, Store
from inference.models import read_model_spec

POLL_S = 0.5
ENDED = frozenset({JobState.SUCCEEDED, JobState.DEAD, JobState.CANCELLED})

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Result of the node for one series."""

    title: str
    folder: Path
    report: Mapping[str, Any]
    is_seg_as_reported: bool  # the SEG that was retrieved has as many voxels as the report says


def run_demo(
    out: Path, *, device: str, timeout_s: float, say: Say, models: Mapping[str, Path] = MappingProxyType({})
) -> list[DemoResult]:
    """Run a node on three synthetic series and write its results to ``out``.

    Raises
    ------
    DemoError
        The node did not start, did not answer, or did not finish in time; its log is in ``out``.
    inference.errors.ModelError
        A folder in ``models`` does not describe a model; nothing was started.
    """
    for model in models.values():
        read_model_spec(model)
    out.mkdir(parents=True, exist_ok=True)
    say("rendering three synthetic series")
    series = list(render_demo_series())
    paths = {each.name: write_series(each, _emptied(out / each.name / "dicom")) for each in series}
    with tempfile.TemporaryDirectory(prefix="dicom-node-demo-") as folder:
        say("starting a node")
        with running_node(Path(folder), out / "node.log", device=device, models=models) as node:
            say(f"the node answers: DIMSE on port {node.port}, DICOMweb at {node.dicomweb_url}")
            for each in series:
                send_by_c_store(node, paths[each.name])
                say(f"sent by C-STORE: {each.title}, {len(paths[each.name])} instances, each acknowledged")
            with Store.open(node.data_dir) as store:
                _wait_for_jobs(node, store, series, timeout_s=timeout_s, say=say)
                results = [_fetch(node, store, each, out / each.name) for each in series]
            say("fetched the SEGs over DICOMweb; stopping the node")
    return results


def _wait_for_jobs(node: DemoNode, store: Store, series: Sequence[DemoSeries], *, timeout_s: float, say: Say) -> None:
    """Wait until each series has a job that succeeded, and report every change meanwhile."""
    titles = {each.series_instance_uid: each.title for each in series}
    states: dict[str, JobState] = {}
    end = time.monotonic() + timeout_s
    while set(states) != set(titles) or not ENDED.issuperset(states.values()):
        node.check_alive()
        _check_worker(node)
        if time.monotonic() > end:
            raise DemoError(f"not finished within {timeout_s:.0f} s", node.log)
        for job in reversed(store.jobs.list(limit=2 * len(titles))):
            uid = job.series_instance_uid
            if uid in titles and states.get(uid) is not job.state:
                states[uid] = job.state
                say(f"{titles[uid]}: {job.state.value}")
                if job.state in ENDED - {JobState.SUCCEEDED}:
                    raise DemoError(f"{titles[uid]}: {job.error_code}: {job.error_message}", node.log)
        time.sleep(POLL_S)


def _check_worker(node: DemoNode) -> None:
    """Raise `DemoError` if the worker reports a trouble; a worker that is starting has none yet."""
    for part in Store.parts(node.data_dir):
        if part.name == "work" and part.trouble is not None:
            raise DemoError(part.trouble.message, node.log)


def _fetch(node: DemoNode, store: Store, series: DemoSeries, folder: Path) -> DemoResult:
    """Retrieve the results of one series, and draw the overlay from the retrieved SEG, not from the node's store."""
    report = next(iter(store.studies.verdicts(series.study_instance_uid))).report
    (folder / "report.json").write_bytes(encode_report(dict(report)))
    (folder / "seg.dcm").unlink(missing_ok=True)  # of an earlier demo; a series without findings has no SEG
    shape = series.volume.spatial_shape
    masks = {"foreground": np.zeros(shape, dtype=bool), "anonymized": np.zeros(shape, dtype=bool)}
    for segmentation in fetch_segmentations(node, series.study_instance_uid):
        segmentation.save_as(folder / "seg.dcm")
        masks = {
            "foreground": mask_of(segmentation, "foreground", series.volume),
            "anonymized": mask_of(segmentation, "anonymized", series.volume),
        }
    overlay = draw_overlay(
        series.volume,
        masks["foreground"],
        masks["anonymized"],
        modality=series.modality,
        caption=caption(report),
    )
    (folder / "overlay.png").write_bytes(overlay)
    n_voxels = {segment["role"]: segment["n_voxels"] for segment in report["segments"]}
    is_as_reported = all(np.count_nonzero(mask) == n_voxels[role] for role, mask in masks.items())
    return DemoResult(series.title, folder, json.loads(json.dumps(dict(report))), is_as_reported)


def _emptied(folder: Path) -> Path:
    """Return the folder after removing the instances of an earlier demo."""
    for path in folder.glob("*.dcm"):
        path.unlink()
    return folder
