"""Which series get the models, and why the others do not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComprehensiveSRStorage,
    CTImageStorage,
    EnhancedMRImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicom_node.pipeline.routing import InstanceFacts, Process, Skip, route
from dicom_node.pipeline.rules import Rules, load_rules
from dicom_node.pipeline.series_facts import values_of
from inference.series.stack_choice import StackChoice

DEFAULT = load_rules(None, peer_names=())


def facts(sop_class_uid: str = CTImageStorage, *, is_own: bool = False, **values: tuple[str, ...]) -> InstanceFacts:
    return InstanceFacts(sop_class_uid, is_own, values)


def rules(*series: Mapping[str, object]) -> Rules:
    return Rules.model_validate({"series": series})


@pytest.mark.parametrize("sop_class_uid", [CTImageStorage, MRImageStorage, EnhancedMRImageStorage])
def test_ct_and_mr_images_get_the_models(sop_class_uid: str) -> None:
    assert route([facts(sop_class_uid, ImageType=("ORIGINAL", "PRIMARY", "AXIAL"))], DEFAULT) == Process(
        "everything-else", None
    )


@pytest.mark.parametrize(
    "sop_class_uid",
    [
        SegmentationStorage,
        ComprehensiveSRStorage,
        SecondaryCaptureImageStorage,
        PositronEmissionTomographyImageStorage,
        "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation, Supplement 243
    ],
)
def test_nothing_else_gets_them_whatever_the_rules_say(sop_class_uid: str) -> None:
    decision = route([facts(sop_class_uid)], rules({"name": "all", "action": "process"}))
    assert isinstance(decision, Skip)
    assert decision.code == "not-a-ct-or-mr-image"
    assert sop_class_uid in decision.reason


def test_what_this_node_wrote_is_skipped_whatever_the_rules_say() -> None:
    decision = route([facts(), facts(is_own=True)], rules({"name": "all", "action": "process"}))
    assert isinstance(decision, Skip)
    assert decision.code == "own-result"


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"ImageType": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "rule-localiser"),
        ({"SeriesDescription": ("AAHead_Scout_64ch",)}, "rule-localiser-by-description"),
        ({"ImageType": ("DERIVED", "SECONDARY", "SCREEN SAVE")}, "rule-screen-save"),
        ({"ImageType": ("DERIVED", "SECONDARY", "PROJECTION IMAGE")}, "rule-projection"),
        ({"SamplesPerPixel": ("3",)}, "rule-colour"),
    ],
)
def test_the_default_rules_skip_what_is_no_volume(values: dict[str, tuple[str, ...]], code: str) -> None:
    decision = route([facts(**values)], DEFAULT)
    assert isinstance(decision, Skip)
    assert decision.code == code


def test_a_rule_takes_a_series_only_when_it_holds_for_every_instance() -> None:
    axial, scout = facts(ImageType=("ORIGINAL", "AXIAL")), facts(ImageType=("ORIGINAL", "LOCALIZER"))
    assert isinstance(route([axial, scout], DEFAULT), Process)
    assert isinstance(route([scout, scout], DEFAULT), Skip)


def test_the_first_rule_that_takes_the_series_decides() -> None:
    thin = {"name": "thin", "when": {"SliceThickness": {"at_most": 2}}, "action": "process", "deliver_to": ["archive"]}
    thick = {"name": "thick", "action": "skip", "reason": "too thick"}
    assert route([facts(SliceThickness=("1.25",))], rules(thin, thick)) == Process("thin", ("archive",))
    assert route([facts(SliceThickness=("5",))], rules(thin, thick)) == Skip("rule-thick", "too thick")
    assert isinstance(route([facts(SliceThickness=("5",))], rules(thick, thin)), Skip)


def test_the_rule_says_which_stacks_are_run() -> None:
    decision = route([facts()], rules({"name": "functional", "action": "process", "stacks": "first"}))
    assert decision == Process("functional", None, (StackChoice.FIRST,))


def test_a_series_that_no_rule_takes_is_skipped_and_says_so() -> None:
    only_mr = {"name": "mr", "when": {"Modality": {"equals": "MR"}}, "action": "process"}
    assert route([facts(Modality=("CT",))], rules(only_mr)) == Skip("no-rule", "no rule takes it")


def test_the_sender_can_be_asked_for() -> None:
    trial = {"name": "trial", "when": {"calling_ae_title": {"in": ["TRIAL1", "TRIAL2"]}}, "action": "process"}
    assert isinstance(route([facts(calling_ae_title=("TRIAL2",))], rules(trial)), Process)
    assert isinstance(route([facts(calling_ae_title=("MODALITY",))], rules(trial)), Skip)


def test_a_series_without_instances_is_skipped() -> None:
    assert isinstance(route([], DEFAULT), Skip)


@pytest.mark.data
@pytest.mark.parametrize(
    ("group", "sop_class_uid", "code"),
    [
        ("ct_localizer_ge_j70", CTImageStorage, "rule-localiser"),
        ("ct_localizer_philips", CTImageStorage, "rule-localiser"),
        ("mr_philips_survey_3plane", MRImageStorage, "rule-localiser-by-description"),
        ("ct_exam_summary_sc", SecondaryCaptureImageStorage, "not-a-ct-or-mr-image"),
        ("pt_headneck", PositronEmissionTomographyImageStorage, "not-a-ct-or-mr-image"),
        ("ct_head_siemens_tilt4", CTImageStorage, None),
        ("mr_head_ge_cor_t1", MRImageStorage, None),
    ],
)
def test_real_series_are_routed_as_a_person_would(
    real_series, group: str, sop_class_uid: str, code: str | None
) -> None:
    headers = [
        dcmread(path, stop_before_pixels=True) for path in sorted(real_series(group).rglob("*")) if path.is_file()
    ]
    instances = [
        InstanceFacts(header.SOPClassUID, False, values_of(header, DEFAULT.keywords))
        for header in headers
        if header.SOPClassUID == sop_class_uid
    ]
    assert instances
    decision = route(instances, DEFAULT)
    assert (decision.code if isinstance(decision, Skip) else None) == code


def test_values_are_read_as_text_and_what_cannot_be_read_is_left_out() -> None:
    header = Dataset()
    header.ImageType = ["ORIGINAL", "PRIMARY"]
    header.SamplesPerPixel = 3
    header.SeriesDescription = ""
    header.SliceThickness = "2.50"
    found = values_of(header, ["ImageType", "SamplesPerPixel", "SeriesDescription", "SliceThickness", "Modality"])
    assert found == {"ImageType": ("ORIGINAL", "PRIMARY"), "SamplesPerPixel": ("3",), "SliceThickness": ("2.50",)}


def test_values_in_other_character_sets_are_decoded(tmp_path: Path) -> None:
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 144"
    header.SeriesDescription = "Разведка"
    header.save_as(tmp_path / "header", implicit_vr=False, little_endian=True)
    read = dcmread(tmp_path / "header", force=True)
    assert values_of(read, ["SeriesDescription"]) == {"SeriesDescription": ("Разведка",)}


def test_a_number_that_is_none_does_not_disturb_routing() -> None:
    assert isinstance(route([facts(SamplesPerPixel=("many",))], DEFAULT), Process)
