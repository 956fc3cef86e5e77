"""Folders and archives as they were reported by others: what is done and what is not used."""

from __future__ import annotations

import tarfile
from collections import Counter
from pathlib import Path

import pytest

from dicom_node.offline.survey import survey_inputs

pytestmark = pytest.mark.data


def test_a_study_packed_on_a_mac_is_done_without_what_the_mac_added(shared_data: Path) -> None:
    survey = survey_inputs([shared_data / "field" / "d22_mac.zip"])

    assert [len(item.sources) for item in survey.items] == [85]
    assert survey.failed == ()
    assert Counter(rejected.code for rejected in survey.not_used) == {"system-file": 86}  # one for the .DS_Store


def test_a_datalad_dataset_is_done_by_its_visible_names(shared_data: Path, tmp_path: Path) -> None:
    with tarfile.open(shared_data / "field" / "datalad_ds.tar.gz") as tar:
        tar.extractall(tmp_path, filter="tar")

    survey = survey_inputs([tmp_path])

    assert [(item.name, item.nifti) for item in survey.items] == [
        ("sub-01_T1w", tmp_path / "ds" / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    ]
    assert survey.failed == ()
    assert [(Path(one.name).name, one.code) for one in survey.not_used] == [(".git", "hidden-folder")]
