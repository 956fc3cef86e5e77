"""Where the process ``work`` computes: here, or on the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from dicom_node.settings import Settings

if TYPE_CHECKING:
    from dicom_node.cluster.address import RunningScheduler
    from dicom_node.cluster.security import ClusterCredentials
    from dicom_node.pipeline.worker import Processor
    from dicom_node.store import S3Place
    from inference.models import ModelIdentity, ModelSpec

ALLOW_PLAIN: Final = "work.dask_plain: true"


@dataclass(frozen=True, slots=True)
class Engine:
    """What computes jobs.

    Attributes
    ----------
    may_claim
        Whether a job could begin at once.
    n_jobs
        How many at the same time.
    """

    process: Processor
    identities: tuple[ModelIdentity, ...]
    may_claim: Callable[[], bool]
    n_jobs: int


@contextmanager
def open_engine(
    settings: Settings, models: Sequence[ModelSpec], *, objects_at: S3Place | None = None
) -> Iterator[Engine]:
    """Load the models here, or be a client of the cluster within the block.

    Parameters
    ----------
    objects_at
        The bucket of the objects, which the workers of a cluster must reach; None means the folder that they must see.

    Raises
    ------
    ModelError
        A model's files have changed; on a cluster, its workers refuse.
    ClusterError
        The cluster may not be called like this. That it does not answer is no error: jobs wait for it.
    """
    if settings.work.engine == "local":
        yield _local_engine(settings, models)
        return
    from dicom_node.cluster.crew import Crew
    from dicom_node.cluster.sameness import WantedModel, as_here
    from dicom_node.pipeline.cluster_engine import ClusterEngine
    from dicom_node.store.objects.s3.reader import reader_of

    data_dir = settings.node.data_dir.absolute()
    folders = (settings.models.foreground, settings.models.anonymized)
    wanted = as_here(
        [
            WantedModel(spec.identity, None if folder is None else folder.absolute())
            for spec, folder in zip(models, folders, strict=True)
        ],
        device=settings.work.device,
        threads=settings.work.threads,
        visible=[data_dir / "objects"] if objects_at is None else [],
        needs=[] if objects_at is None else [reader_of(objects_at, data_dir)],
    )
    scheduler, credentials = _cluster(settings)
    with Crew(scheduler, credentials, wanted, allow_plain=ALLOW_PLAIN) as crew:
        identities = tuple(spec.identity for spec in models)
        yield Engine(ClusterEngine(crew, wanted), identities, crew.has_place, settings.work.dask_jobs)


def check_engine(settings: Settings) -> None:
    """Read the files that a cluster is called with; nothing is called.

    Raises
    ------
    ClusterError
        The extra is missing, a file cannot be used, or the address is another machine's and without TLS.
    """
    if settings.work.engine == "local":
        return
    from dicom_node.cluster.connect import require_dask
    from dicom_node.cluster.security import security_for

    require_dask()
    scheduler, credentials = _cluster(settings)
    security_for(scheduler, credentials, allow=ALLOW_PLAIN)


def _cluster(settings: Settings) -> tuple[RunningScheduler, ClusterCredentials]:
    from dicom_node.cluster.address import RunningScheduler
    from dicom_node.cluster.security import ClusterCredentials

    work, tls = settings.work, settings.work.dask_tls
    credentials = ClusterCredentials(tls.ca_file, tls.certificate_file, tls.key_file, may_be_plain=work.dask_plain)
    return RunningScheduler(work.dask_address or ""), credentials


def _local_engine(settings: Settings, models: Sequence[ModelSpec]) -> Engine:
    from inference.threads import let_threads_sleep

    let_threads_sleep()  # before torch is imported
    import torch

    from dicom_node.processing import process_series
    from inference.segment import load_models

    if settings.work.threads is not None:
        torch.set_num_threads(settings.work.threads)
    loaded = load_models(*models, device=settings.work.device)
    return Engine(partial(process_series, models=loaded), loaded.identities, lambda: True, n_jobs=1)
