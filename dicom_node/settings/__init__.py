"""Read an administrator's YAML file and environment variables into frozen, validated settings."""

from dicom_node.settings.load import SettingsError, load_settings
from dicom_node.settings.model import (
    CommitmentSettings,
    DeliverySettings,
    DicomwebPeer,
    DimsePeer,
    DimseSettings,
    LogSettings,
    ModelSettings,
    NodeSettings,
    Peer,
    RetentionSettings,
    SeriesSettings,
    Settings,
    WebSettings,
    WorkSettings,
)

__all__ = [
    "CommitmentSettings",
    "DeliverySettings",
    "DicomwebPeer",
    "DimsePeer",
    "DimseSettings",
    "LogSettings",
    "ModelSettings",
    "NodeSettings",
    "Peer",
    "RetentionSettings",
    "SeriesSettings",
    "Settings",
    "SettingsError",
    "WebSettings",
    "WorkSettings",
    "load_settings",
]
