"""What decides a result and must be the same on a worker as here: code, libraries, models, files.

A worker with another release or another model would write other masks under the same name, and nobody would see it.
So each worker is compared before it gets its first task, and is refused by name (docs/decisions/0161).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Final, Protocol

import dicom_node
from inference.errors import InferenceError
from inference.models import ModelIdentity, ModelSpec, read_model_spec, reference_model

_CODE: Final = ("dicom_node", "inference", "part10", "sr_writer")
_CODE_SUFFIXES: Final = frozenset({".py", ".yaml", ".csv", ".txt"})
# Libraries whose release may change a voxel, a written byte or a picture.
_LIBRARIES: Final = (
    *("numpy", "scipy", "torch", "dynamic-network-architectures"),
    *("pydicom", "highdicom", "imagecodecs", "nibabel", "pillow"),
)


@dataclass(frozen=True, slots=True)
class WantedModel:
    """A model and where workers find it: its folder, or the one that comes with the package (None)."""

    identity: ModelIdentity
    folder: Path | None

    def here(self) -> ModelSpec:
        """Read the model's description on this machine; nothing is loaded.

        Raises
        ------
        ModelError
            The folder is incomplete.
        """
        return reference_model(self.identity.role) if self.folder is None else read_model_spec(self.folder)


class Need(Protocol):
    """Something else that a worker must be able to do; it can be hashed and pickled."""

    def lack(self) -> str | None:
        """Return, on a worker, why it cannot; None if it can."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a worker must have in common with this process.

    Attributes
    ----------
    versions
        Of this package and of the libraries, by name.
    code_sha256
        Of the packages' own files: two checkouts may have the same version.
    models
        Foreground and anonymised area; empty for work that needs none.
    device
        ``auto``, ``cpu`` or ``cuda``.
    threads
        For PyTorch; as many as the worker has threads when None.
    visible
        Folders and files that the worker must see under the same path.
    needs
        What else it must be able to do.
    """

    versions: tuple[tuple[str, str], ...]
    code_sha256: str
    models: tuple[WantedModel, ...]
    device: str
    threads: int | None
    visible: tuple[Path, ...]
    needs: tuple[Need, ...] = ()


def as_here(
    models: Sequence[WantedModel] = (),
    *,
    device: str = "cpu",
    threads: int | None = None,
    visible: Iterable[Path] = (),
    needs: Iterable[Need] = (),
) -> Wanted:
    """Return what workers need so that they compute what this process would."""
    return Wanted(versions(), code_sha256(), tuple(models), device, threads, tuple(visible), tuple(needs))


def wanted_model(role: str, folder: Path | None) -> WantedModel:
    """Describe a model of this machine.

    Raises
    ------
    ModelError
        The folder is incomplete.
    """
    spec = reference_model(role) if folder is None else read_model_spec(folder.absolute())
    return WantedModel(spec.identity, None if folder is None else spec.folder)


def differences(wanted: Wanted) -> Iterator[str]:
    """Yield, on a worker, what is not as it is wanted."""
    here = dict(versions())
    for name, version in wanted.versions:
        if here[name] != version:
            yield f"{name} {here[name]} instead of {version}"
    if here == dict(wanted.versions) and code_sha256() != wanted.code_sha256:
        yield f"other code of dicom-node {dicom_node.__version__} (SHA-256 {code_sha256()[:12]})"
    for model in wanted.models:
        try:
            found = model.here().identity
        except InferenceError as error:
            yield f"{model.identity.role} model: {error}"
            continue
        if found != model.identity:
            yield (
                f"{found.role} model {found.name} {found.version} ({found.sha256[:12]}) instead of "
                f"{model.identity.name} {model.identity.version} ({model.identity.sha256[:12]})"
            )
    for path in wanted.visible:
        if not path.exists():
            yield f"does not see {path}, which must be on a file system that all workers share"
    for need in wanted.needs:
        lack = need.lack()
        if lack is not None:
            yield lack


@cache
def versions() -> tuple[tuple[str, str], ...]:
    """Return the releases in use; the build of a release, such as PyTorch's +cu128, is left out."""
    return (
        ("dicom-node", dicom_node.__version__),
        *((name, _release(name)) for name in _LIBRARIES),
    )


@cache
def code_sha256() -> str:
    """Return the SHA-256 of the packages' own files, by their relative names."""
    digest = hashlib.sha256()
    for name in _CODE:
        root = Path(str(import_module(name).__file__)).parent
        for path in sorted(path for path in root.rglob("*") if path.suffix in _CODE_SUFFIXES and path.is_file()):
            digest.update(f"{name}/{path.relative_to(root).as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _release(name: str) -> str:
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        return "none"
