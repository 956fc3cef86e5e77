"""Read the weights of an nnU-Net checkpoint with torch's restricted unpickler, which never runs code from the file."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inference.nnunet.errors import CheckpointError, ModelFileMissingError, UnsafeCheckpointError

# nnU-Net stores its log, which contains NumPy scalars, in the checkpoint. Unpickling them needs these names only. NumPy
# 2 renamed the scalar's module, so checkpoints contain either name.
_NUMPY_SCALAR = np.float64(0.0).__reduce__()[0]
SAFE_GLOBALS: list[Any] = [
    (_NUMPY_SCALAR, "numpy._core.multiarray.scalar"),
    (_NUMPY_SCALAR, "numpy.core.multiarray.scalar"),
    np.dtype,
    *{type(np.dtype(name)) for name in ("float16", "float32", "float64", "int32", "int64", "bool")},
]
# What the unpickler, torch and zipfile raise on damaged or hostile bytes. MemoryError is missing on purpose: it says
# something about the machine, not about the file.
DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,  # includes RecursionError
    TypeError,
    ValueError,
    pickle.PickleError,
    struct.error,
    zipfile.BadZipFile,
)
N_AXES = 3
WRAPPER_PREFIXES = ("_orig_mod.", "module.")  # left by torch.compile and DistributedDataParallel


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The entries of a checkpoint that prediction needs."""

    file: str
    weights: Mapping[str, torch.Tensor]  # float32 on the CPU, by parameter name
    configuration: str  # of plans.json, such as 3d_fullres
    mirroring_axes: tuple[int, ...]  # axes of the patch, 0 to 2, that training mirrored


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the weights of one fold into CPU memory as float32.

    Raises
    ------
    ModelFileMissingError
        The file does not exist.
    UnsafeCheckpointError
        The pickle needs more than tensors, plain containers and NumPy scalars.
    CheckpointError
        The file is not a checkpoint, or lacks an entry that nnU-Net's trainer writes.
    """
    if not path.is_file():
        raise ModelFileMissingError(str(path), "the weights")
    content = _load(path)
    weights = content.get("network_weights")
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise CheckpointError(str(path), "no mapping of tensors under 'network_weights'")
    arguments = content.get("init_args")
    configuration = arguments.get("configuration") if isinstance(arguments, dict) else None
    if not isinstance(configuration, str):
        raise CheckpointError(str(path), "no text under init_args['configuration']")
    try:
        widened = {_plain_name(str(name)): value.float() for name, value in weights.items()}
    except DAMAGE as error:
        _raise_if_out_of_memory(error)
        raise CheckpointError(str(path), f"weights that are no plain numbers ({_first_line(error)})") from error
    return Checkpoint(
        file=str(path),
        weights=widened,
        configuration=configuration,
        mirroring_axes=_mirroring_axes(path, content.get("inference_allowed_mirroring_axes")),
    )


def load_weights(network: torch.nn.Module, checkpoint: Checkpoint) -> None:
    """Copy the weights into ``network``.

    Raises
    ------
    CheckpointError
        Names or shapes differ from those of the network, or a weight is not finite.
    """
    try:
        network.load_state_dict(dict(checkpoint.weights))
    except DAMAGE as error:
        _raise_if_out_of_memory(error)
        reasons = " ".join(str(error).split())[:300]
        raise CheckpointError(checkpoint.file, f"weights do not fit the architecture ({reasons})") from error
    for name, parameter in network.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise CheckpointError(checkpoint.file, f"weight {name} holds values that are not finite")


def _load(path: Path) -> dict[str, Any]:
    try:
        with torch.serialization.safe_globals(SAFE_GLOBALS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsafeCheckpointError(str(path), _first_line(error)) from error
    except DAMAGE as error:
        _raise_if_out_of_memory(error)
        raise CheckpointError(str(path), f"cannot be read ({_first_line(error)})") from error
    if not isinstance(content, dict):
        raise CheckpointError(str(path), f"holds a {type(content).__name__}, not a mapping")
    return content


def _raise_if_out_of_memory(error: BaseException) -> None:
    """Raise ``MemoryError`` if ``error`` is the ``RuntimeError`` that torch raises when memory runs out."""
    if isinstance(error, RuntimeError) and ("allocate memory" in str(error) or "not enough memory" in str(error)):
        raise MemoryError from error


def _first_line(error: Exception) -> str:
    """Return the line of torch's message that names the problem, without torch's advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "GLOBAL" in line or "Unsupported" in line or "operand" in line]
    return (telling or lines or [type(error).__name__])[0][:200]


def _plain_name(name: str) -> str:
    """Return a weight's name without the prefixes of the wrappers used in training."""
    while name.startswith(WRAPPER_PREFIXES):
        name = name.split(".", 1)[1]
    return name


def _mirroring_axes(path: Path, found: object) -> tuple[int, ...]:
    """Return the axes that training mirrored; empty if the trainer recorded none."""
    if found is None:
        return ()
    if not isinstance(found, list | tuple) or len(found) > N_AXES:
        shown = type(found).__name__
    elif all(isinstance(axis, int | np.integer) and 0 <= axis < N_AXES for axis in found):
        return tuple(sorted({int(axis) for axis in found}))
    else:
        shown = repr(found)[:80]
    raise CheckpointError(str(path), f"inference_allowed_mirroring_axes is {shown}, expected axes out of 0, 1, 2")
