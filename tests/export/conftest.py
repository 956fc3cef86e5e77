"""The store that the tests of what may leave share."""

from tests.gate.conftest import store, template

__all__ = ["store", "template"]
