"""Series that hold several images of one place become named stacks, whole and unmixed, or a named refusal."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from inference.series.assemble import assemble_volumes
from inference.series.errors import DuplicatePositionsError, MultipleTimePointsError
from inference.series.limits import MAX_STACKS
from inference.series.stack_choice import StackChoice
from inference.series.volume import SourceVolume
from tests.factories import CORONAL, EncodedInstance, ct_series, encode, enhanced_mr, mr_series

N_SLICES = 4
ALL = (StackChoice.ALL,)
FIRST_ECHO = (StackChoice.FIRST_ECHO, StackChoice.FIRST_OF_REPEATS)


def stack(value: int, n_slices: int = N_SLICES, **attributes: object) -> list[EncodedInstance]:
    """Slices that all hold ``value``, in a series that several stacks share."""
    return stack_with(value, lambda ds, _: _set(ds, attributes), n_slices=n_slices)


def stack_with(value: int, edit: Callable[[Dataset, int], None], n_slices: int = N_SLICES) -> list[EncodedInstance]:
    def join(ds: Dataset, index: int) -> None:
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = "2.25.1", "2.25.2", "2.25.3"
        ds.InstanceNumber = ""
        edit(ds, index)

    voxels = np.full((n_slices, 5, 6), float(value))
    return list(mr_series(n_slices, rows=5, columns=6, voxels=voxels, seed=f"stack {value}", edit=join))


def _set(ds: Dataset, attributes: dict[str, object]) -> None:
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)


def shuffled(*stacks: Sequence[EncodedInstance]) -> list[EncodedInstance]:
    instances = [instance for part in stacks for instance in part]
    random.Random(len(instances)).shuffle(instances)
    return instances


def values_of(volumes: Sequence[SourceVolume]) -> list[int]:
    """The one value of each stack; a mixed stack has no one value."""
    found = []
    for source in volumes:
        assert len(np.unique(source.volume.array)) == 1, f"{source.stack_name}: planes of several stacks"
        found.append(int(source.volume.array.flat[0]))
    return found


def private(group: int, creator: str, element: int, vr: str, value: object) -> Callable[[Dataset, int], None]:
    def edit(ds: Dataset, _: int) -> None:
        ds.private_block(group, creator, create=True).add_new(element, vr, value)

    return edit


def in_sequence(keyword: str, inner: str, value: object) -> Callable[[Dataset, int], None]:
    def edit(ds: Dataset, _: int) -> None:
        item = Dataset()
        setattr(item, inner, value)
        setattr(ds, keyword, [item])

    return edit


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("EchoTime", (2.46, 4.92)),
        ("ImageType", (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "MPR"])),
        ("DiffusionBValue", (0.0, 1000.0)),
        ("InversionTime", (400, 900)),
        ("KVP", (80, 140)),
        ("FlipAngle", (5, 20)),
        ("SeriesNumber", (3, 4)),
    ],
)
def test_each_contrast_is_a_stack_with_its_name(keyword: str, values: tuple[object, object]):
    volumes = assemble_volumes(shuffled(stack(7, **{keyword: values[0]}), stack(8, **{keyword: values[1]})))
    assert values_of(volumes) == [7, 8]
    assert all(source.stack_name.startswith(keyword) for source in volumes)
    assert len({source.stack_name for source in volumes}) == 2
    assert [source.stack_number for source in volumes] == [1, 2]


@pytest.mark.parametrize(
    "edits",
    [
        [private(0x0019, "SIEMENS MR HEADER", 0x0C, "IS", b) for b in (0, 800)],
        [private(0x2001, "Philips Imaging DD 001", 0x03, "FL", b) for b in (0.0, 800.0)],
        [private(0x0043, "GEMS_PARM_01", 0x39, "IS", [b, 8, 0, 0]) for b in (0, 1_000_000_800)],
    ],
    ids=["Siemens", "Philips", "GE"],
)
def test_the_b_values_of_each_vendor_are_read(edits: list[Callable[[Dataset, int], None]]):
    volumes = assemble_volumes(shuffled(stack_with(7, edits[0]), stack_with(8, edits[1])))
    assert values_of(volumes) == [7, 8]
    assert [source.stack_name for source in volumes] == ["DiffusionBValue 0", "DiffusionBValue 800"]


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("TemporalPositionIdentifier", (1, 2, 3)),
        ("TriggerTime", (0, 40, 80)),
        ("AcquisitionNumber", (1, 2, 3)),
        ("AcquisitionTime", ("101112", "101114", "101116")),
        ("ContentTime", ("101112", "101114", "101116")),
    ],
)
def test_the_first_of_repetitions_in_time_is_run_and_the_others_are_said(keyword: str, values: tuple[object, ...]):
    instances = shuffled(*(stack(7 + index, **{keyword: value}) for index, value in enumerate(values)))
    (first,) = assemble_volumes(instances)
    assert values_of([first]) == [7]
    remarks = {remark.code: remark.text for remark in first.remarks}
    assert remarks["several-stacks"] == "the series holds 3 stacks"
    said = "2 of 3 stacks are not looked at, they repeat others (magnitude first-of-repeats): "
    assert remarks["repeats-not-run"].startswith(said)
    assert "stacks-not-run" not in remarks
    assert values_of(assemble_volumes(instances, stacks=ALL)) == [7, 8, 9]


def test_gradient_directions_repeat_a_b_value():
    directions = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]

    def weighted(index: int) -> Callable[[Dataset, int], None]:
        def edit(ds: Dataset, _: int) -> None:
            ds.DiffusionBValue = 1000.0
            in_sequence("DiffusionGradientDirectionSequence", "DiffusionGradientOrientation", directions[index])(ds, _)

        return edit

    instances = shuffled(stack(5, DiffusionBValue=0.0), *(stack_with(6 + index, weighted(index)) for index in range(3)))
    assert values_of(assemble_volumes(instances, stacks=ALL)) == [5, 8, 7, 6]  # in the order of the directions
    volumes = assemble_volumes(instances)
    assert values_of(volumes) == [5, 8]
    assert volumes[1].stack_name == "DiffusionBValue 1000, DiffusionGradientOrientation 0/0/1"


def test_magnitude_is_run_without_phase():
    types = {7: "M", 8: "P", 9: "R", 10: "I"}
    instances = shuffled(*(stack(v, ImageType=["ORIGINAL", "PRIMARY", letter]) for v, letter in types.items()))
    assert values_of(assemble_volumes(instances)) == [7]
    assert sorted(values_of(assemble_volumes(instances, stacks=ALL))) == [7, 8, 9, 10]


def codes_of_left_out(volumes: Sequence[SourceVolume]) -> set[str]:
    return {remark.code for source in volumes for remark in source.remarks} & {"stacks-not-run", "repeats-not-run"}


def test_a_phase_image_shows_the_place_of_its_magnitude_again_and_another_echo_does_not_count_as_seen():
    echoes = {v: {"EchoTime": echo, "ImageType": ["ORIGINAL", "PRIMARY", "M"]} for v, echo in ((7, 2.5), (8, 5.0))}
    phase = stack(9, EchoTime=2.5, ImageType=["ORIGINAL", "PRIMARY", "P"])
    magnitude = [stack(value, **attributes) for value, attributes in echoes.items()]
    assert codes_of_left_out(assemble_volumes(shuffled(*magnitude))) == set()
    assert codes_of_left_out(assemble_volumes(shuffled(magnitude[0], phase))) == {"repeats-not-run"}
    assert codes_of_left_out(assemble_volumes(shuffled(phase, magnitude[0]), stacks=(StackChoice.FIRST,))) == {
        "repeats-not-run"
    }
    assert codes_of_left_out(assemble_volumes(shuffled(*magnitude), stacks=(StackChoice.FIRST,))) == {"stacks-not-run"}
    both = assemble_volumes(shuffled(*magnitude, stack(10, **echoes[7], AcquisitionTime="101112")), stacks=FIRST_ECHO)
    assert codes_of_left_out(both) == {"stacks-not-run", "repeats-not-run"}


def test_a_scout_does_not_stand_for_the_head_that_it_comes_with():
    def elsewhere(ds: Dataset, _: int) -> None:
        ds.Rows, ds.Columns, ds.PixelData = 2, 2, bytes(8)

    (scout,) = assemble_volumes(shuffled(stack_with(7, elsewhere), stack(8)), stacks=(StackChoice.FIRST,))
    assert scout.volume.spatial_shape[1:] == (2, 2)
    assert codes_of_left_out([scout]) == {"stacks-not-run"}


def test_a_repetition_that_reaches_further_than_what_was_run_is_not_seen():
    broken_off = stack(7, n_slices=8, TemporalPositionIdentifier=0)[:5]
    whole = [stack(8 + t, n_slices=8, TemporalPositionIdentifier=t) for t in (1, 2)]
    (first,) = assemble_volumes(shuffled(broken_off, *whole))
    assert first.volume.spatial_shape[0] == 5
    assert codes_of_left_out([first]) == {"stacks-not-run"}


def test_a_series_of_phase_images_only_is_run():
    assert values_of(assemble_volumes(stack(7, ImageType=["ORIGINAL", "PRIMARY", "P"]))) == [7]


@pytest.mark.parametrize("is_slice_by_slice", [False, True])
def test_repetitions_that_only_their_order_tells_apart_are_whole(is_slice_by_slice: bool):
    """As GE's functional series are: one time and one echo for all, numbered through."""
    n_times = 20

    def numbered(time: int) -> Callable[[Dataset, int], None]:
        def edit(ds: Dataset, index: int) -> None:
            ds.InstanceNumber = 1 + (index * n_times + time if is_slice_by_slice else time * N_SLICES + index)

        return edit

    instances = shuffled(*(stack_with(10 + time, numbered(time)) for time in range(n_times)))
    (first,) = assemble_volumes(instances)
    assert values_of([first]) == [10]
    assert first.stack_name == "repetition 1"
    assert "19 of 20" in {remark.code: remark.text for remark in first.remarks}["repeats-not-run"]


def test_an_order_that_changes_between_positions_is_not_trusted():
    def numbered(numbers: list[int]) -> Callable[[Dataset, int], None]:
        return lambda ds, index: setattr(ds, "InstanceNumber", numbers[index])

    instances = [*stack_with(7, numbered([1, 3, 5, 6])), *stack_with(8, numbered([2, 4, 8, 7]))]
    with pytest.raises(DuplicatePositionsError):
        assemble_volumes(instances)


def test_slices_of_one_moment_are_no_stack_of_a_multi_band_series():
    """Three of nine slices share each time; only whole images may become stacks."""

    def banded(repetition: int) -> Callable[[Dataset, int], None]:
        def edit(ds: Dataset, index: int) -> None:
            ds.AcquisitionTime = f"1011{10 + 3 * repetition + index % 3}"
            ds.InstanceNumber = 1 + 9 * repetition + index

        return edit

    volumes = assemble_volumes(shuffled(*(stack_with(7 + r, banded(r), n_slices=9) for r in range(2))), stacks=ALL)
    assert values_of(volumes) == [7, 8]
    assert [source.volume.spatial_shape[0] for source in volumes] == [9, 9]


def test_a_last_time_point_that_broke_off_does_not_stop_the_series():
    instances = shuffled(
        *(stack(7 + t, n_slices=8, TemporalPositionIdentifier=t) for t in range(3)),
        stack(10, n_slices=8, TemporalPositionIdentifier=3)[:4],
    )
    assert values_of(assemble_volumes(instances)) == [7]
    assert [s.volume.spatial_shape[0] for s in assemble_volumes(instances, stacks=ALL)] == [8, 8, 8, 4]


def test_two_acquisitions_pushed_into_each_other_are_two_stacks():
    def shifted(ds: Dataset, _: int) -> None:
        ds.AcquisitionNumber = 2
        ds.ImagePositionPatient = [float(ds.ImagePositionPatient[0]) - 1.25, *ds.ImagePositionPatient[1:]]

    first, second = stack(7, n_slices=8, AcquisitionNumber=1), stack_with(8, shifted, n_slices=8)
    volumes = assemble_volumes(shuffled(first, second), stacks=ALL)
    assert values_of(volumes) == [7, 8]
    assert [source.volume.spacing[0] for source in volumes] == pytest.approx([2.5, 2.5])


def test_acquisitions_one_above_the_other_are_one_stack():
    """As a step-and-shoot CT numbers its rotations."""
    series = ct_series(12, edit=lambda ds, index: setattr(ds, "AcquisitionNumber", 1 + index // 4))
    (source,) = assemble_volumes(list(series))
    assert source.volume.spatial_shape[0] == 12
    assert source.stack_name == ""


def test_orientations_and_sizes_are_in_the_name():
    same = {"SeriesInstanceUID": "2.25.1", "StudyInstanceUID": "2.25.2", "FrameOfReferenceUID": "2.25.3"}

    def join(ds: Dataset, _: int) -> None:
        _set(ds, dict(same))

    axial = ct_series(4, seed="a", edit=join)
    coronal = ct_series(4, seed="b", orientation=CORONAL, edit=join)
    small = ct_series(4, seed="c", rows=10, columns=12, edit=join)
    names = [source.stack_name for source in assemble_volumes([*axial, *coronal])]
    assert names == ["orientation axial", "orientation coronal"]
    names = [source.stack_name for source in assemble_volumes([*axial, *small])]
    assert names == ["size 12x10", "size 36x40"]


def test_an_echo_time_that_is_no_number_is_not_the_first_echo():
    def spoilt(ds: Dataset, _: int) -> None:
        ds[0x00180081] = RawDataElement(Tag(0x00180081), "DS", 4, b"-inf", 0, False, True)

    instances = shuffled(stack_with(7, spoilt), stack(8, EchoTime=20.0), stack(9, EchoTime=10.0))
    assert values_of(assemble_volumes(instances, stacks=(StackChoice.FIRST_ECHO,))) == [9]


@pytest.mark.parametrize(
    ("policy", "values"),
    [
        ((StackChoice.ALL,), [7, 8, 9, 10]),
        ((StackChoice.FIRST,), [7]),
        ((StackChoice.FIRST_ECHO,), [7, 8]),
        ((StackChoice.LOWEST_B_VALUE,), [7, 9]),
        ((StackChoice.FIRST_ECHO, StackChoice.LOWEST_B_VALUE), [7]),
        ((StackChoice.LARGEST,), [7, 8, 9, 10]),
        ((StackChoice.FIRST_OF_REPEATS,), [7, 8, 9, 10]),
    ],
)
def test_the_policy_narrows_step_by_step(policy: tuple[StackChoice, ...], values: list[int]):
    instances = shuffled(
        stack(7, EchoTime=10.0, DiffusionBValue=0.0),
        stack(8, EchoTime=10.0, DiffusionBValue=900.0),
        stack(9, EchoTime=20.0, DiffusionBValue=0.0),
        stack(10, EchoTime=20.0, DiffusionBValue=900.0),
    )
    assert values_of(assemble_volumes(instances, stacks=policy)) == values


def test_the_largest_stack_can_be_asked_for():
    instances = shuffled(stack(7, EchoTime=10.0), stack(8, n_slices=7, EchoTime=20.0))
    assert values_of(assemble_volumes(instances, stacks=(StackChoice.LARGEST,))) == [8]


def test_more_stacks_than_are_sensible_are_refused_and_the_way_out_is_said():
    instances = shuffled(*(stack(7 + number, EchoTime=10.0 + number) for number in range(17)))
    with pytest.raises(MultipleTimePointsError, match=r"17 volumes .* choose fewer with the key stacks"):
        assemble_volumes(instances)
    assert values_of(assemble_volumes(instances, stacks=(StackChoice.FIRST,))) == [7]


def test_parts_of_a_concatenation_are_one_stack_of_an_enhanced_series():
    """PS3.3 C.7.6.16.2.2.4: two instances of one Concatenation UID are one multi-frame image, cut for its size."""

    def echo(seed: str, number: int) -> list[EncodedInstance]:
        series = mr_series(6, orientation=CORONAL, seed=seed)
        parts = []
        for order in ([0, 2, 4], [5, 3, 1]):
            ds = enhanced_mr(series, frame_order=order).dataset()
            ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = "2.25.1", "2.25.2", "2.25.3"
            ds.ConcatenationUID = f"2.25.10{number}"
            parts.append(encode(ds))
        return parts

    volumes = assemble_volumes([*echo("a", 1), *echo("b", 2)], stacks=ALL)
    assert [source.volume.spatial_shape[0] for source in volumes] == [6, 6]
    assert [len(source.headers) for source in volumes] == [2, 2]


@settings(max_examples=25, deadline=None)
@given(
    echoes=st.integers(1, 3),
    times=st.integers(1, 4),
    has_phase=st.booleans(),
    is_echo_known=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_no_stack_is_ever_mixed(echoes: int, times: int, has_phase: bool, is_echo_known: bool, seed: int):
    instances: list[EncodedInstance] = []
    number = 0
    for time in range(times):
        for echo in range(echoes):
            for letter in "MP" if has_phase else "M":
                value = 100 * echo + 10 * time + (letter == "P")

                def edit(ds: Dataset, index: int, time=time, echo=echo, letter=letter, number=number) -> None:
                    ds.ImageType = ["ORIGINAL", "PRIMARY", letter]
                    ds.EchoTime = 10.0 + echo if is_echo_known else 10.0
                    ds.InstanceNumber = 1 + number * 3 + index

                instances += stack_with(value, edit, n_slices=3)
                number += 1
    random.Random(seed).shuffle(instances)
    if number <= MAX_STACKS:
        assert len(set(values_of(assemble_volumes(instances, stacks=ALL)))) == number
    assert values_of(assemble_volumes(instances))[0] == 0
