"""What can go wrong between a file and a mask.

``Refused``: this input will never work. ``Transient``: the same input may work later. Anything that is neither is a
defect of ours. Every leaf has a stable ``code`` and a message that names the thing, the value found, the value
expected and the way out. Facts are kept in ``args``, so that errors pickle.
"""

from __future__ import annotations

from typing import ClassVar


class InferenceError(Exception):
    """Base of all errors of this package."""

    code: ClassVar[str] = "inference"


class Refused(InferenceError):
    """The input will never work; trying again cannot help."""


class Transient(InferenceError):
    """The input may work later or with more resources."""


class SeriesError(Refused):
    """One series, or one file of it, cannot become a volume."""

    code: ClassVar[str] = "series"


class ModelError(Refused):
    """A model folder cannot be used as it is."""

    code: ClassVar[str] = "model"
