"""What messages say of UIDs and words, and of slices that each came as a series of their own."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from pydicom import Dataset

from dicom_node.offline.items import list_items
from dicom_node.offline.survey import survey_inputs
from inference.series.assemble import assemble_volumes
from inference.series.errors import ColourImageError, OtherImageError, SeriesError, TooFewSlicesError
from inference.series.files import find_inputs
from inference.series.uids import name_of_uid, shown_uid, shown_word
from tests.factories import ct_series, enhanced_mr, mr_series, uid_of

NAME = "Doe^Jane 7"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1.2.840.10008.1.2", "1.2.840.10008.1.2"),
        (NAME, "(10 characters: digits, letters, spaces, punctuation)"),
        ("", "(empty)"),
        ("1.2\n3", "(5 characters: digits, control characters, punctuation)"),
        ("1." * 40, "(80 characters: digits, punctuation)"),
        ("Åsa", "(3 characters: letters)"),
        ("(4 characters: jane)", "(20 characters: digits, letters, spaces, punctuation)"),
    ],
)
def test_a_uid_is_shown_and_other_text_described(text: str, shown: str) -> None:
    assert shown_uid(text) == shown
    assert shown_uid(shown) == shown


def test_names_and_words_of_the_standard_are_shown() -> None:
    assert name_of_uid("1.2.840.10008.1.2.1") == "Explicit VR Little Endian"
    assert name_of_uid("1.2.3") == "1.2.3"
    assert shown_word("RGB", "RGB", "HSV") == "RGB"
    assert shown_word("SMITH", "RGB", "HSV") == "(5 characters: letters)"


def refusal(**attributes: object) -> SeriesError:
    def edit(ds: Dataset, _: int) -> None:
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)

    with pytest.raises(SeriesError) as refused:
        assemble_volumes(list(ct_series(2, edit=edit)))
    return refused.value


@pytest.mark.filterwarnings("ignore:.*Invalid value for VR:UserWarning")
@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"SeriesInstanceUID": NAME}, TooFewSlicesError),
        ({"PhotometricInterpretation": "SMITH"}, ColourImageError),
        ({"SOPClassUID": "1.2.Smith"}, OtherImageError),
    ],
)
def test_no_message_holds_what_stands_in_the_place_of_a_uid_or_word(
    attributes: dict[str, object], kind: type[SeriesError]
) -> None:
    error = refusal(**attributes)
    assert isinstance(error, kind)
    for text in (str(error), str(pickle.loads(pickle.dumps(error)))):
        assert "characters: " in text
        assert not any(part in text for part in ("Doe", "Jane", "SMITH", "Smith"))


@pytest.mark.filterwarnings("ignore:.*Invalid value for VR:UserWarning")
def test_a_folder_is_not_named_after_text_in_the_place_of_a_uid(tmp_path: Path) -> None:
    ct_series(3, edit=lambda ds, _: setattr(ds, "SeriesInstanceUID", NAME)).write_to(tmp_path)
    (item,) = list_items(find_inputs([tmp_path]))
    assert item.name.startswith("series-")
    assert "Doe" not in item.name


def scattered(folder: Path, n_slices: int, *, numbers: bool = False) -> None:
    def edit(ds: Dataset, index: int) -> None:
        ds.SeriesInstanceUID = uid_of("scattered", index)
        if numbers:
            ds.SeriesNumber = index + 1

    mr_series(n_slices, edit=edit).write_to(folder)


@pytest.mark.parametrize(
    ("n_slices", "numbers", "said"),
    [(12, False, "12 series of one slice with one Series Number"), (12, True, "with several Series Numbers")],
)
def test_a_series_uid_for_each_slice_is_said_once(n_slices: int, numbers: bool, said: str, tmp_path: Path) -> None:
    scattered(tmp_path, n_slices, numbers=numbers)
    for paths in ([tmp_path], sorted(tmp_path.iterdir())):
        survey = survey_inputs(paths)
        assert survey.items == ()
        (failed,) = survey.failed
        assert failed.code == "series-uid-per-slice"
        assert said in failed.reason
    assert "probably renumbered by an anonymiser" in failed.reason


def test_few_series_of_one_slice_with_numbers_of_their_own_are_refused_each(tmp_path: Path) -> None:
    scattered(tmp_path, 4, numbers=True)
    assert len(survey_inputs([tmp_path]).items) == 4


def test_whole_series_and_volumes_of_one_instance_are_never_scattered(tmp_path: Path) -> None:
    scattered(tmp_path / "scattered", 12)
    ct_series(4).write_to(tmp_path / "whole")
    for number in range(12):
        instance = enhanced_mr(mr_series(3, rows=8, columns=8, seed=f"enhanced {number}"))
        (tmp_path / f"{number}.dcm").write_bytes(instance.part10)
    survey = survey_inputs([tmp_path])
    assert len(survey.items) == 13
    assert [one.code for one in survey.failed] == ["series-uid-per-slice"]


def test_a_single_slice_says_that_an_anonymiser_may_have_divided_it() -> None:
    with pytest.raises(TooFewSlicesError, match="an anonymiser gave each slice a Series Instance UID"):
        assemble_volumes(list(ct_series(1)))


@pytest.mark.data
def test_the_head_of_which_each_slice_is_a_series_is_one_failure(shared_data: Path) -> None:
    survey = survey_inputs([shared_data / "field" / "d09_series_uid_per_slice.zip"])
    assert survey.items == ()
    (failed,) = survey.failed
    assert "85 series of one slice with one Series Number, expected one series of 85 slices" in failed.reason
