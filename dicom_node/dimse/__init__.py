"""DIMSE server: C-ECHO and C-STORE as an SCP.

``DimseServer`` accepts connections and starts a thread for each; ``association`` is one association from request to
release; ``store_service`` stores instances. The node has its own upper layer, because pynetdicom's waits in
polling sleeps (docs/decisions/0060).
"""

from dicom_node.dimse.server import DimseServer

__all__ = ["DimseServer"]
