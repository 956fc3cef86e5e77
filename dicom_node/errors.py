"""What can go wrong in the node, and whether trying again can help.

The class decides what happens next: ``Refused`` ends the thing for good, ``Transient`` is tried again with backoff,
anything else is a defect of ours (``dicom_node.failures`` knows the families of all packages).
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
