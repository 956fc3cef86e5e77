"""QIDO-RS, WADO-RS, STOW-RS and health checks on the store."""

from dicom_node.dicomweb.deleting import Administrators
from dicom_node.dicomweb.http_server import BoundedServer
from dicom_node.dicomweb.resources import ROOT
from dicom_node.dicomweb.server import build_app
from dicom_node.http_intake.limits import StoreLimits

__all__ = ["ROOT", "Administrators", "BoundedServer", "StoreLimits", "build_app"]
