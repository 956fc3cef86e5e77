"""What a worker keeps between tasks: the models, loaded once, and a lock so that one volume is segmented at a time.

Nothing here imports PyTorch before a worker needs it: the scheduler reads tasks too.
"""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dicom_node.cluster.errors import WorkerUnfitError
from dicom_node.cluster.sameness import Wanted, differences
from dicom_node.failures import ErrorKind, classify

if TYPE_CHECKING:
    from inference.segment import Models

# A second thread of the worker reads the next volume meanwhile.
MODELS_IN_USE: Final = threading.Lock()

_loading = threading.Lock()
_loaded: dict[Wanted, Models | None] = {}


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What a worker says of itself when it is asked for the first time."""

    host: str
    unfit: str | None  # why it may not take part


def introduce(wanted: Wanted) -> WorkerFacts:
    """Compare this worker with what is wanted, and load the models."""
    try:
        models_for(wanted)
    except Exception as error:  # noqa: BLE001 - whatever it is, this worker cannot take part
        is_ours = classify(error) is not ErrorKind.DEFECT
        return WorkerFacts(socket.gethostname(), str(error) if is_ours else f"{type(error).__name__}: {error}")
    return WorkerFacts(socket.gethostname(), None)


def models_for(wanted: Wanted) -> Models | None:
    """Return the models on this worker, loaded when they are first asked for; None where none are wanted.

    Raises
    ------
    WorkerUnfitError
        Something differs.
    inference.errors.ModelError
        A model's files have changed.
    """
    with _loading:
        if wanted not in _loaded:
            found = list(differences(wanted))
            if found:
                raise WorkerUnfitError("; ".join(found))
            _loaded.clear()  # of another run: memory holds one pair of models
            _loaded[wanted] = _load(wanted) if wanted.models else None
        return _loaded[wanted]


def _load(wanted: Wanted) -> Models:
    from inference.threads import let_threads_sleep

    let_threads_sleep()
    import torch

    from inference.segment import load_models

    if wanted.device == "cuda" and not torch.cuda.is_available():
        raise WorkerUnfitError("no CUDA device that PyTorch can use, and the device is cuda")
    torch.set_num_threads(wanted.threads or _worker_threads())
    foreground, anonymized = wanted.models
    return load_models(foreground.here(), anonymized.here(), device=wanted.device)


def _worker_threads() -> int:
    """Return the worker's own number of threads, which says how many cores it was given."""
    from distributed import get_worker

    return max(1, int(get_worker().state.nthreads))
