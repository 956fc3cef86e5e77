"""QIDO-RS and WADO-RS over the store, and health."""

from dicom_node.dicomweb.http_server import BoundedServer
from dicom_node.dicomweb.resources import ROOT
from dicom_node.dicomweb.server import build_app

__all__ = ["ROOT", "BoundedServer", "build_app"]
