"""Listening on DIMSE: C-ECHO and C-STORE as an SCP.

``DimseServer`` accepts connections and starts a thread for each; ``association`` is one association from request to
release; ``store_service`` is what happens to an instance. The upper layer is our own, because pynetdicom's waits in
polling sleeps (docs/decisions/0060).
"""

from dicom_node.dimse.server import DimseServer

__all__ = ["DimseServer"]
