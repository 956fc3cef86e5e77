"""The two ways of ``segment``: in this process, and on a cluster."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dicom_node.cli.cluster_options import GivenCluster, cluster_for_run, tell_refused
from dicom_node.cli.errors import EXIT_USAGE, fail
from dicom_node.cli.progress import make_progress
from dicom_node.offline.left_overs import clear_items
from dicom_node.offline.output import OutputFolder
from dicom_node.offline.run import RunResult
from dicom_node.offline.survey import Survey, survey_inputs
from inference.models import ModelIdentity


@dataclass(frozen=True, slots=True)
class WantedRun:
    """What the command line asks for."""

    inputs: Sequence[Path]
    output: Path
    device: str
    threads: int | None
    foreground_model: Path | None
    anonymized_model: Path | None
    overwrite: bool
    verbose: bool


Ran = tuple[Survey, RunResult, Sequence[ModelIdentity]]


def segment_here(wanted: WantedRun) -> Ran:
    """Segment all inputs in this process."""
    import torch

    from dicom_node.offline.item_work import ItemWork
    from dicom_node.offline.run import run_items
    from dicom_node.pipeline_digest import pipeline_digest
    from inference.models import read_model_spec, reference_model
    from inference.segment import load_models

    if wanted.threads is not None:
        torch.set_num_threads(wanted.threads)
    if wanted.device == "cuda" and not torch.cuda.is_available():
        fail("--device cuda: this machine has no CUDA device that PyTorch can use; leave --device out for the CPU")
        sys.exit(EXIT_USAGE)
    with make_progress(verbose=wanted.verbose) as progress:
        folders = {"foreground": wanted.foreground_model, "anonymized": wanted.anonymized_model}
        foreground, anonymized = (
            reference_model(role) if folder is None else read_model_spec(folder) for role, folder in folders.items()
        )
        models = load_models(foreground, anonymized, device=wanted.device)
        survey = survey_inputs(wanted.inputs)
        output = OutputFolder(wanted.output)
        clear_items(wanted.output, survey.items)
        work = ItemWork(models, output, pipeline_digest(models.identities), wanted.overwrite)
        return survey, run_items(survey.items, work, progress=progress), models.identities


def segment_on(given: GivenCluster, wanted: WantedRun) -> Ran:
    """Segment all inputs on a cluster."""
    from dicom_node.cluster.address import LocalWorkers
    from dicom_node.cluster.connect import n_local_threads
    from dicom_node.cluster.sameness import as_here, wanted_model
    from dicom_node.offline.cluster_run import look_on, run_items_on

    models = (
        wanted_model("foreground", wanted.foreground_model),
        wanted_model("anonymized", wanted.anonymized_model),
    )
    choice, _ = given
    threads = wanted.threads
    if threads is None and isinstance(choice, LocalWorkers):
        threads = n_local_threads(choice.n_workers)
    with cluster_for_run(given) as cluster, make_progress(verbose=wanted.verbose) as progress:
        if not cluster.is_here:
            wanted = replace(
                wanted, inputs=[path.absolute() for path in wanted.inputs], output=wanted.output.absolute()
            )
        OutputFolder(wanted.output)
        visible = [path.absolute() for path in (*wanted.inputs, wanted.output)]
        workers = as_here(models, device=wanted.device, threads=threads, visible=visible)
        survey = survey_inputs(wanted.inputs, look_on(cluster, workers, on_refused=tell_refused))
        clear_items(wanted.output, survey.items)
        result = run_items_on(
            cluster,
            survey.items,
            workers,
            wanted.output,
            overwrite=wanted.overwrite,
            progress=progress,
            on_refused=tell_refused,
        )
        clear_items(wanted.output, survey.items)  # what workers left that were killed
        return survey, result, [model.identity for model in models]
