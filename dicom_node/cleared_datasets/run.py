"""A run of ``dataset --studies cleared``: select studies, write their volumes, publish each study, then the layouts.

No file of the dataset holds an identifying value: studies, series, subjects and volumes have the names that the key of
the project gives them. The output depends on the studies, the key and the options alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from dicom_node.cleared_datasets.publishing import Published, Publisher
from dicom_node.cleared_datasets.series_task import SeriesOutcome, SeriesTask, VolumeOutcome, run_series
from dicom_node.datasets.finishing import MANIFEST, PREPARED, Options, RefusedVolume, finish_dataset
from dicom_node.datasets.layouts import VOLUMES, Entry
from dicom_node.datasets.subjects import Place
from dicom_node.datasets.workers import run_groups
from dicom_node.export.errors import OutputFolderError
from dicom_node.export.output import STAGING_FOLDER, alone_in, check_output
from dicom_node.export.persons import ID_OR_ISSUER, differing_persons, told_of_several
from dicom_node.export.profile import Profile
from dicom_node.export.pseudonyms import Pseudonyms
from dicom_node.export.readiness import Outcome, Ready, Stays, check_key, readiness
from dicom_node.export.selection import GateTerms, select_studies
from dicom_node.gate.decisions import Standpoint
from dicom_node.gate.leaving import images_of
from dicom_node.gate.withdrawals import withdraw_exports
from dicom_node.store import ExportState, JobState, SeriesEvidence, Store
from dicom_node.stored_volumes import stored_series

SOURCE: Final = "node"  # how the manifest names the source of a refused volume


@dataclass(frozen=True, slots=True)
class Progress:
    """What is told while a dataset is written."""

    begin: Callable[[int], None] = lambda _: None  # number of studies
    study: Callable[[str, str], None] = lambda _, __: None  # one more is finished: Study Instance UID, outcome
    changed: Callable[[str, str], None] = lambda _, __: None  # the outcome of a finished one is another now


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A study that may leave, as it was selected."""

    uid: str
    ready: Ready
    staging: Path


@dataclass(slots=True)
class _Found:
    """What a published study adds to the dataset."""

    published: Published
    volumes: list[VolumeOutcome]
    refused: list[RefusedVolume]
    place: Place


@dataclass(slots=True)
class _State:
    """What a run knows so far; studies by their Study Instance UID."""

    outcomes: dict[str, tuple[Outcome, str, int]] = field(default_factory=dict)
    found: dict[str, _Found] = field(default_factory=dict)
    refused: dict[str, list[RefusedVolume]] = field(default_factory=dict)


def make_dataset_of_studies(
    store: Store,
    out: Path,
    terms: GateTerms,
    options: Options,
    *,
    profile: Profile,
    pseudonyms: Pseudonyms,
    now: Callable[[], datetime],
    cohort: Sequence[str] | None = None,
    progress: Progress | None = None,
    by: str = "export",
) -> dict[str, Any]:
    """Write a dataset of the cleared studies of a cohort, or of the node, and return its manifest.

    Parameters
    ----------
    cohort
        Study Instance UIDs; None means all studies of the node.
    by
        Who exports, for the audit trail.

    Raises
    ------
    OutputFolderError
        ``out`` belongs to another key or project, holds other files, or cannot be written.
    KeyFileError
        The project was exported with another key before, wherever to.
    WorkerKilledError
        A worker process was killed.
    ObjectsUnavailableError
        The store of objects is away; the dataset is as it was but for studies that this run has added.
    """
    check_key(store, pseudonyms)
    check_output(out, pseudonyms)
    if not (out / VOLUMES).is_dir() and (out / MANIFEST).exists():
        raise OutputFolderError("holds copies of an export", "name another folder for the dataset")
    with alone_in(out):
        withdraw_exports(store, terms.digest, terms.rules, now())
        (out / VOLUMES).mkdir(exist_ok=True)
        shutil.rmtree(out / STAGING_FOLDER, ignore_errors=True)
        publisher = Publisher(store, out / VOLUMES, terms, pseudonyms, now, by)
        run = _Run(store, out, publisher, profile, progress or Progress())
        run.write_studies(select_studies(store, terms, cohort), options.workers)
        shutil.rmtree(out / STAGING_FOLDER, ignore_errors=True)
        run.drop_changed()
        return run.finish(options)


class _Run:
    """One run: its studies, one after the other."""

    def __init__(self, store: Store, out: Path, publisher: Publisher, profile: Profile, progress: Progress) -> None:
        self._store = store
        self._out = out
        self._publisher = publisher
        self._profile = profile
        self._progress = progress
        self._state = _State()

    def write_studies(self, selected: Sequence[tuple[str, Standpoint | None]], workers: int) -> None:
        """Write and publish the volumes of the studies that may leave."""
        self._progress.begin(len(selected))
        groups = run_groups(self._chosen(selected), run_series, workers=workers)
        with closing(groups):  # an interrupt ends the processes too
            for chosen, outcomes in groups:
                self._end(chosen.uid, *self._publish(chosen, outcomes))
                shutil.rmtree(chosen.staging, ignore_errors=True)

    def drop_changed(self) -> None:
        """Leave out studies that have changed since they were published, before a layout names them."""
        for uid, found in list(self._state.found.items()):
            if self._publisher.withdraw_if_changed(uid, found.published):
                del self._state.found[uid]
                told = "something arrived or was decided after it was published"
                self._state.outcomes[uid] = (Outcome.WITHDRAWN, told, 0)
                self._progress.changed(uid, Outcome.WITHDRAWN.value)

    def finish(self, options: Options) -> dict[str, Any]:
        """Write layouts, manifest and page; remove volumes that are not in the dataset."""
        entries, repeated = self._entries()
        _remove_others(self._out, {entry.id for entry in entries})
        published = [one for found in self._state.found.values() for one in found.refused]
        others = [one for volumes in self._state.refused.values() for one in volumes]
        refused = sorted((*published, *map(_without_picture, others)), key=lambda one: one.name)
        manifest = finish_dataset(self._out, entries, refused, repeated, options, more=self._in_manifest())
        n_new = sum(one.is_new for found in self._state.found.values() for one in found.volumes)
        return {**manifest, "n_new": n_new}

    def _chosen(self, selected: Sequence[tuple[str, Standpoint | None]]) -> Iterator[tuple[_Chosen, list[SeriesTask]]]:
        """Yield the studies that may leave, each with a task for each of its series."""
        for number, (uid, found) in enumerate(selected, start=1):
            ready = readiness(self._store, uid, found, self._publisher.terms)
            if isinstance(ready, Stays):
                self._end(uid, ready.outcome, ready.reason)
                continue
            chosen = _Chosen(uid, ready, self._out / STAGING_FOLDER / str(number))
            yield chosen, [task for series in ready.seen if (task := self._task(chosen, series)) is not None]

    def _task(self, chosen: _Chosen, series: SeriesEvidence) -> SeriesTask | None:
        """Return what to do for a series; None if no job has seen this generation of it."""
        uid = series.series_instance_uid
        jobs = self._store.jobs.list(series_instance_uid=uid, states=(JobState.SUCCEEDED,), limit=1)
        if not jobs or jobs[0].generation != series.generation:
            return None
        stored = stored_series(self._store, jobs[0])
        images = {row.sop_instance_uid for row in images_of(self._store, series)[0]}
        return SeriesTask(
            chosen.uid,
            stored,
            tuple(source for source in stored.sources if source.name in images),
            self._out / VOLUMES,
            chosen.staging,
            self._profile,
            self._publisher.pseudonyms,
        )

    def _publish(self, chosen: _Chosen, outcomes: Sequence[SeriesOutcome]) -> tuple[Outcome, str, int]:
        """Publish the volumes of a study, or say why it stays."""
        lost = next((one.lost for one in outcomes if one.lost is not None), None)
        if lost is not None:
            return Outcome.SOURCES_LOST, lost, 0
        places = {one.place for one in outcomes if one.place is not None}
        differing = differing_persons(person for one in outcomes for person in one.persons)
        if len(places) > 1:
            differing = (ID_OR_ISSUER, *differing)
        if differing:
            return Outcome.TWO_PATIENTS, told_of_several("its objects", differing), 0
        volumes = [one for outcome in outcomes for one in outcome.volumes if one.record is not None]
        refused = [
            RefusedVolume(one.id, one.name, SOURCE, one.refusal)
            for outcome in outcomes
            for one in outcome.volumes
            if one.refusal is not None
        ]
        if not volumes:
            self._state.refused[chosen.uid] = refused
            return Outcome.NOTHING_TO_EXPORT, "none of its volumes can be used; the reasons are under refused", 0
        published = self._publisher.publish(chosen.uid, chosen.ready.fingerprint, volumes, chosen.staging)
        if published is None:
            return Outcome.CHANGED, "something arrived or was decided before it was published", 0
        self._state.found[chosen.uid] = _Found(published, volumes, refused, next(iter(places)))
        return Outcome.EXPORTED, "", len(volumes)

    def _end(self, uid: str, outcome: Outcome, reason: str, n_volumes: int = 0) -> None:
        self._state.outcomes[uid] = (outcome, reason, n_volumes)
        self._progress.study(uid, outcome.value)

    def _entries(self) -> tuple[list[Entry], list[tuple[str, str]]]:
        """Return the volumes of the dataset, each once, and those that repeat one."""
        entries: dict[str, Entry] = {}
        repeated = []
        found = sorted(self._state.found.values(), key=lambda one: one.published.row.copy_study_instance_uid)
        for study in found:
            for volume in study.volumes:
                if volume.record is None:
                    continue
                if volume.id in entries:
                    repeated.append((volume.name, volume.id))
                else:
                    entries[volume.id] = Entry(volume.record, study.place)
        return list(entries.values()), repeated

    def _in_manifest(self) -> dict[str, Any]:
        names, terms = self._publisher.pseudonyms, self._publisher.terms
        studies = [
            {"study": names.mapped_uid(uid), "outcome": outcome.value, "reason": reason, "n_volumes": n_volumes}
            for uid, (outcome, reason, n_volumes) in self._state.outcomes.items()
        ]
        withdrawn = self._store.exports.list(
            target=self._publisher.target, key_fingerprint=names.fingerprint(), state=ExportState.WITHDRAWN
        )
        return {
            "project": names.project,
            "key_fingerprint": names.fingerprint(),
            "profile": {"name": self._profile.name, "sha256": self._profile.digest},
            "gate_digest": terms.digest,
            "pipeline_digest": terms.pipeline_digest,
            "studies": sorted(studies, key=lambda one: str(one["study"])),
            "withdrawn": [{"study": row.copy_study_instance_uid, "reason": row.withdrawn_because} for row in withdrawn],
        }


def _without_picture(volume: RefusedVolume) -> RefusedVolume:
    """Nothing of a study that stays is shown."""
    return replace(volume, refusal=replace(volume.refusal, picture=None))


def _remove_others(out: Path, kept: set[str]) -> None:
    """Remove volumes of earlier runs that are not in the dataset, since some may no longer leave.

    What `pretrain` prepared from a volume, in ``prepared/<settings>/<id>``, goes with it.
    """
    for folder in (*(out / VOLUMES).iterdir(), *(out / PREPARED).glob("*/*")):
        if folder.name not in kept and folder.is_dir():  # and no file of a desktop, such as .DS_Store
            shutil.rmtree(folder)
