"""The store that the cases of what may leave share."""

from tests.gate.conftest import template

__all__ = ["template"]
