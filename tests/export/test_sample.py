"""A sample of exported studies: what left, drawn and compared with its sources, and who has looked."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dicom_node.export.cleaner import Cleaner
from dicom_node.export.errors import OutputFolderError
from dicom_node.export.profile import read_profile
from dicom_node.export.sample import draw_sample
from dicom_node.store import DecisionKind, Store
from tests.export.clearing import NAMES, TERMS, export, looked_at
from tests.gate import cases
from tests.new_store import NewStore


@pytest.fixture
def store(new_store: NewStore, tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path / "node") as opened:
        yield opened


def test_a_sample_shows_what_left_and_what_its_headers_lost(store: Store, tmp_path: Path) -> None:
    series = looked_at(store, "defaced", "a")
    looked_at(store, "face_present", "b")
    export(store, tmp_path / "out")
    cleaner = Cleaner(read_profile(None), NAMES)
    (one,) = draw_sample(store, tmp_path / "look", TERMS, cleaner, 5)
    assert one.is_same
    assert one.export.study_instance_uid == series.study_instance_uid
    assert (tmp_path / "look").stat().st_mode & 0o077 == 0
    (picture,) = one.folder.glob("*.png")
    pixels = np.asarray(Image.open(picture)).astype(int)
    assert np.ptp(pixels, axis=2).max() > 50  # outline and filled area are in colour
    tables = {path.stem: list(csv.DictReader(StringIO(path.read_text()))) for path in one.folder.glob("*.csv")}
    assert len(tables) == 2  # the images and the SEG
    rows = {row["attribute"]: row for row in tables[NAMES.mapped_uid(series.series_instance_uid)]}
    assert (rows["PatientID"]["in the source"], rows["PatientID"]["in the copy"]) == (
        "MRN-123456",
        NAMES.patient("MRN-123456", ""),
    )
    assert rows["RecognizableVisualFeatures"]["in the copy"] == "NO"
    assert "Rows" not in rows
    assert not list(one.folder.rglob("*.dcm"))
    with pytest.raises(OutputFolderError, match="exists already"):
        draw_sample(store, tmp_path / "look", TERMS, cleaner, 1)


def test_a_sample_that_is_not_what_left_says_so(store: Store, tmp_path: Path) -> None:
    looked_at(store, "defaced", "a")
    export(store, tmp_path / "out")
    other = read_profile(None).model_copy(update={"name": "another profile"})
    (one,) = draw_sample(store, tmp_path / "look", TERMS, Cleaner(other, NAMES), 1)
    assert not one.is_same


def test_a_series_that_the_profile_keeps_in_has_no_picture_and_the_sample_goes_on(store: Store, tmp_path: Path) -> None:
    cases.seen(store, "defaced", series="1.2.3.4")
    cases.seen(store, "defaced", series="1.2.3.5", ImageType=["DERIVED", "PRIMARY", "MPR"])
    assert cases.told(export(store, tmp_path / "out")) == ("exported", "")
    (one,) = draw_sample(store, tmp_path / "look", TERMS, Cleaner(read_profile(None), NAMES), 5)
    assert one.is_same
    assert [path.stem for path in one.folder.glob("*.csv")] == [NAMES.mapped_uid("1.2.3.4")]


def test_the_sample_of_a_study_that_was_cleared_and_released_is_the_same(store: Store, tmp_path: Path) -> None:
    cases.seen(store, "defaced", series="1.2.3.4")
    cases.seen(store, "not_applicable", series="1.2.3.5")
    cases.say(store, DecisionKind.RELEASE)
    assert cases.told(export(store, tmp_path / "out")) == ("exported", "")
    (one,) = draw_sample(store, tmp_path / "look", TERMS, Cleaner(read_profile(None), NAMES), 5)
    assert one.is_same


def test_results_that_the_profile_refuses_are_not_in_the_sample(store: Store, tmp_path: Path) -> None:
    looked_at(store, "defaced")
    shipped = read_profile(None)
    some = [kind for kind in shipped.sop_classes if kind != "SegmentationStorage"]
    profile = shipped.model_copy(update={"sop_classes": tuple(some)})
    assert export(store, tmp_path / "out", profile=profile)["counts"]["copied"] == 3
    (one,) = draw_sample(store, tmp_path / "look", TERMS, Cleaner(profile, NAMES), 5)
    assert one.is_same
