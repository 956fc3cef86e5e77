"""QIDO-RS, WADO-RS and health checks on the store."""

from dicom_node.dicomweb.http_server import BoundedServer
from dicom_node.dicomweb.resources import ROOT
from dicom_node.dicomweb.server import build_app

__all__ = ["ROOT", "BoundedServer", "build_app"]
