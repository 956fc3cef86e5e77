"""Base classes of the node's errors, which say whether trying again can help.

The class decides what happens next: ``Refused`` is final, ``Transient`` is tried again with backoff,
anything else is a defect of the node (``dicom_node.failures`` lists the families of all packages).
"""

from __future__ import annotations

from typing import ClassVar


class NodeError(Exception):
    """Base of all errors of this package."""

    code: ClassVar[str] = "node"


class Refused(NodeError):
    """The input will never work; trying again cannot help."""


class Transient(NodeError):
    """The same input may work later."""
