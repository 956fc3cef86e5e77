"""The two ways of ``dataset``, from folders and from a node: each runs, and tells what became of it."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dicom_node.cli.cluster_options import GivenCluster, cluster_for_run, tell_refused
from dicom_node.cli.errors import fail
from dicom_node.cli.options import open_existing_store, read_settings
from dicom_node.cli.outcomes import read_cohort, tell_outcomes
from dicom_node.cli.progress import growing_bar
from dicom_node.datasets.finishing import Options

if TYPE_CHECKING:
    from dicom_node.cluster.connect import ComputeCluster
    from dicom_node.datasets.results import Task
    from dicom_node.datasets.tasks import Outcome

_EXAMPLES = 3  # results that a line of refusals names


def from_folders(
    sources: Sequence[Path],
    images: Sequence[Path],
    output: Path,
    options: Options,
    given: GivenCluster | None = None,
) -> bool:
    """Write a dataset of what segment wrote, on a cluster if one is given; return whether no volume was refused."""
    from dicom_node.datasets.run import make_dataset

    with ExitStack() as stack:
        run_tasks = None
        if given is not None:
            cluster = stack.enter_context(cluster_for_run(given))
            if not cluster.is_here:
                sources, images = ([path.absolute() for path in paths] for paths in (sources, images))
                output = output.absolute()
            run_tasks = partial(_run_on, cluster, [path.absolute() for path in (*sources, *images, output)])
        begin, advance = stack.enter_context(growing_bar("writing volumes"))
        manifest = make_dataset(sources, images, output, options, on_begin=begin, on_task=advance, run_tasks=run_tasks)
    _tell(manifest, output)
    return not manifest["refused"]


def _run_on(
    cluster: ComputeCluster, visible: Sequence[Path], tasks: Sequence[Task], run: Callable[[Task], tuple[Outcome, ...]]
) -> Generator[tuple[int, tuple[Outcome, ...]], None, None]:
    """Run the tasks of a dataset on a cluster; an error that ends a run in processes ends this one too."""
    from dicom_node.cluster.sameness import as_here

    ended = cluster.run(
        run,
        len(tasks),
        tasks.__getitem__,
        as_here(visible=visible),
        on_refused=tell_refused,
        on_workers=lambda _: None,
    )
    with closing(ended):
        for index, outcome in ended:
            if isinstance(outcome, BaseException):
                raise outcome
            yield index, outcome


def from_node(
    config: Path | None,
    output: Path,
    options: Options,
    project: str,
    key_file: Path,
    *,
    cohort: Path | None,
    profile: Path | None,
) -> bool:
    """Write a dataset of the cleared studies of a node; return whether all that was asked for is in it."""
    from dicom_node import app
    from dicom_node.cleared_datasets.run import Progress, make_dataset_of_studies
    from dicom_node.export.profile import read_profile
    from dicom_node.export.pseudonyms import Pseudonyms, read_key
    from dicom_node.export.readiness import Outcome
    from dicom_node.export.selection import GateTerms
    from dicom_node.gate.rules import gate_digest

    if cohort is not None and not cohort.is_file():
        raise typer.BadParameter("no such file", param_hint="--cohort")
    pseudonyms = Pseudonyms(project, read_key(key_file))
    chosen = read_profile(profile)
    wanted = None if cohort is None else read_cohort(cohort)
    settings = read_settings(config)
    rules = app.read_rules(settings).study
    pipeline = app.current_pipeline_digest(settings)
    ended: dict[str, str] = {}
    with open_existing_store(settings) as store, growing_bar("studies") as (begin, advance):

        def study_ended(uid: str, outcome: str) -> None:
            ended[uid] = outcome
            advance()

        manifest = make_dataset_of_studies(
            store,
            output,
            GateTerms(rules, pipeline, gate_digest(rules, pipeline)),
            options,
            profile=chosen,
            pseudonyms=pseudonyms,
            now=app.utc_now,
            cohort=wanted,
            by=app.system_user(),
            progress=Progress(begin, study_ended, ended.__setitem__),
        )
    fine = {Outcome.EXPORTED.value} | ({Outcome.NOT_CLEARED.value} if wanted is None else set())
    by_outcome: defaultdict[str, list[str]] = defaultdict(list)
    for uid, outcome in ended.items():
        by_outcome[outcome].append(uid)
    tell_outcomes(manifest["studies"], by_outcome, fine)
    if manifest["withdrawn"]:
        n = len(manifest["withdrawn"])
        typer.echo(f"{n} studies that were in it may no longer be used; tell those who have a copy (`exports list`)")
    _tell(manifest, output)
    stayed = {str(one["outcome"]) for one in manifest["studies"]} - fine
    return not (manifest["refused"] or stayed or manifest["withdrawn"])


def check_again(output: Path, config: Path | None) -> bool:
    """Check a dataset that was written before; return whether nothing is wrong with it."""
    from dicom_node.datasets.checking import check_dataset

    preprocessed = os.environ.get("nnssl_preprocessed")  # noqa: SIM112 - so nnssl writes it
    checked = check_dataset(output, Path(preprocessed) if preprocessed else None)
    findings = list(checked.findings)
    if config is not None and "key_fingerprint" in checked.manifest:
        from dicom_node.cleared_datasets.withdrawn import withdrawn_since

        with open_existing_store(read_settings(config)) as store:
            findings += withdrawn_since(store, checked.manifest)
    for finding in findings:
        fail(finding)
    counted = [f"{len(checked.manifest['volumes'])} volumes"]
    if checked.n_nnssl_masks is not None:
        counted.append(f"{checked.n_nnssl_masks} masks of nnssl")
    typer.echo(", ".join([*counted, f"{len(findings)} faults"]))
    return not findings


def _tell(manifest: Mapping[str, Any], output: Path) -> None:
    for code, n in Counter(one["code"] for one in manifest["refused"]).most_common():
        some = [one for one in manifest["refused"] if one["code"] == code]
        names = ", ".join(one["result"] for one in some[:_EXAMPLES]) + (" …" if n > _EXAMPLES else "")
        typer.echo(f"refused: {n} × {code} ({names}): {some[0]['reason']}", err=True)
    for note in manifest["notes"]:
        typer.echo(f"note: {note}", err=True)
    typer.echo(
        f"{manifest['n_volumes']} volumes of {manifest['n_subjects']} subjects in {output} ({manifest['n_new']} new), "
        f"{manifest['n_refused']} refused; see index.html"
    )
