"""The demo's PACS: sends series by C-STORE and retrieves the results by DICOMweb."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
from dicomweb_client import DICOMwebClient
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE

from dicom_node.demo.errors import DemoError
from dicom_node.demo.node import AE_TITLE, HOST, PACS_AE_TITLE, STOP_TIMEOUT_S, DemoNode
from sr_writer.codes import SEGMENT_TERMS
from sr_writer.objects import Role


def send_by_c_store(node: DemoNode, paths: Sequence[Path]) -> None:
    """Send instances over one association; every answer must be Success."""
    ae = AE(ae_title=PACS_AE_TITLE)
    for sop_class_uid in (CTImageStorage, MRImageStorage):
        ae.add_requested_context(sop_class_uid, ExplicitVRLittleEndian)
    association = ae.associate(HOST, node.port, ae_title=AE_TITLE)
    if not association.is_established:
        node.check_alive(within_s=STOP_TIMEOUT_S)
        raise DemoError("the node refused the association", node.log)
    try:
        for path in paths:
            answer = association.send_c_store(path)
            if "Status" not in answer:
                node.check_alive(within_s=STOP_TIMEOUT_S)
                raise DemoError("C-STORE was not answered", node.log)
            if answer.Status != 0:
                raise DemoError(f"C-STORE was answered with 0x{answer.Status:04X}, expected 0x0000", node.log)
    finally:
        association.release()


def fetch_segmentations(node: DemoNode, study_instance_uid: str) -> list[Dataset]:
    """Return the SEG instances of a study, found by QIDO-RS and retrieved by WADO-RS."""
    client = DICOMwebClient(node.dicomweb_url)
    found = client.search_for_series(study_instance_uid, search_filters={"Modality": "SEG"})
    return [ds for series in found for ds in client.retrieve_series(study_instance_uid, series["0020000E"]["Value"][0])]


def mask_of(segmentation: Dataset, role: Role, source: hd.Volume) -> NDArray[np.bool_]:
    """Return the mask of one segment, found by its code, on the source's grid; all False if the SEG lacks it."""
    wanted = SEGMENT_TERMS[role].property_type
    seg = hd.seg.Segmentation.from_dataset(segmentation)
    numbers = [
        number
        for number in seg.segment_numbers
        if seg.get_segment_description(number).segmented_property_type == wanted
    ]
    if not numbers:
        return np.zeros(source.spatial_shape, dtype=bool)
    volume = seg.get_volume(segment_numbers=numbers, combine_segments=True)
    return np.asarray(volume.match_geometry(source).array > 0)
