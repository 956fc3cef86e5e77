"""Read an administrator's YAML file and environment variables into frozen, validated settings."""

from dicom_node.settings.audit import AuditSettings
from dicom_node.settings.load import SettingsError, load_settings
from dicom_node.settings.model import (
    CommitmentSettings,
    DeliverySettings,
    DimseSettings,
    LogSettings,
    ModelSettings,
    NodeSettings,
    RetentionSettings,
    SeriesSettings,
    Settings,
    WorkSettings,
)
from dicom_node.settings.oidc import OidcSettings
from dicom_node.settings.peers import DicomwebPeer, DimsePeer, Peer
from dicom_node.settings.query_retrieve import QueryRetrieveSettings
from dicom_node.settings.secrets import add_secrets
from dicom_node.settings.targets import OrthancTarget, Target, WebhookTarget
from dicom_node.settings.tls import DimseTlsSettings, PeerTlsSettings
from dicom_node.settings.web import WebSettings

__all__ = [
    "AuditSettings",
    "CommitmentSettings",
    "DeliverySettings",
    "DicomwebPeer",
    "DimsePeer",
    "DimseSettings",
    "DimseTlsSettings",
    "LogSettings",
    "ModelSettings",
    "NodeSettings",
    "OidcSettings",
    "OrthancTarget",
    "Peer",
    "PeerTlsSettings",
    "QueryRetrieveSettings",
    "RetentionSettings",
    "SeriesSettings",
    "Settings",
    "SettingsError",
    "Target",
    "WebSettings",
    "WebhookTarget",
    "WorkSettings",
    "add_secrets",
    "load_settings",
]
