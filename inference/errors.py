"""Base classes of the errors raised between reading a file and writing a mask.

``Refused``: this input will never work. ``Transient``: the same input may work later. Any other exception is a bug of
this package. Every concrete class has a stable ``code``; its message names the thing, the value found, the value
expected and what to do. Facts are kept in ``args``, so that errors can be pickled.
"""

from __future__ import annotations

from typing import ClassVar


class InferenceError(Exception):
    """Base of all errors of this package."""

    code: ClassVar[str] = "inference"


class Refused(InferenceError):
    """The input will never work; retrying cannot help."""


class Transient(InferenceError):
    """The input may work later or with more resources."""


class SeriesError(Refused):
    """One series, or one file of it, cannot become a volume."""

    code: ClassVar[str] = "series"


class ModelError(Refused):
    """A model folder cannot be used as it is."""

    code: ClassVar[str] = "model"
