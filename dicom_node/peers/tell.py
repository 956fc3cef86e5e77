"""Tell a target of either kind the state of a study."""

from __future__ import annotations

from dicom_node.peers.notice import StudyNotice
from dicom_node.peers.orthanc import show_state
from dicom_node.peers.webhook import post_state
from dicom_node.settings import OrthancTarget, WebhookTarget

MAX_TELLING_S = 40.0  # for all calls together


def tell(target: OrthancTarget | WebhookTarget, notice: StudyNotice, *, node_ae_title: str) -> None:
    """Tell a target the state of a study; telling it again changes nothing.

    Raises
    ------
    DeliveryError
        The target does not have the study, or did not accept the state.
    """
    if isinstance(target, OrthancTarget):
        show_state(target, notice, within_s=MAX_TELLING_S)
    else:
        post_state(target, notice, node_ae_title=node_ae_title)
