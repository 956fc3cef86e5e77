"""Small synthetic series of every kind that a PACS may send, each with what must become of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    MRSpectroscopyStorage,
    PositronEmissionTomographyImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from tests.factories import EncodedInstance, SyntheticSeries, ct_series, drop_slice, enhanced_mr, mr_series, uid_of
from tests.soak.edits import (
    deep_sequence,
    frame_of_reference_by_slice,
    many_items,
    moved,
    setting,
    setting_now,
    text,
    with_edit,
    with_one,
    without,
    without_now,
    wrong_vr,
)

N_SLICES, ROWS, COLUMNS = 9, 36, 32
N_REPEATED_SLICES = 5
SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big-endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg-2000": JPEG2000Lossless,
    "jpeg-ls": JPEGLSLossless,
}
Instances = Sequence[EncodedInstance]


@dataclass(frozen=True, slots=True)
class Case:
    """A series and what must become of it: a number of volumes, or beginnings of codes, divided by ``|``."""

    name: str
    instances: tuple[EncodedInstance, ...]
    expected: int | str


def all_cases() -> Iterator[Case]:
    """Every case, the same each time."""
    for make in (_orientations, _leaning, _gaps, _stacks, _encodings, _pixels, _damaged, _attributes, _other_objects):
        for name, instances, expected in make():
            yield Case(name, tuple(instances), expected)


def ct(name: str, n_slices: int = N_SLICES, **options: Any) -> SyntheticSeries:
    """A small CT series with UIDs of its own."""
    sizes = {"rows": ROWS, "columns": COLUMNS, "spacing_mm": (5.0, 4.0, 3.5)}
    return ct_series(n_slices, **{**sizes, **options}, seed=name)


def mr(name: str, n_slices: int = N_SLICES, **options: Any) -> SyntheticSeries:
    """A small MR series with UIDs of its own."""
    sizes = {"rows": ROWS, "columns": COLUMNS, "spacing_mm": (5.0, 4.0, 3.5)}
    return mr_series(n_slices, **{**sizes, **options}, seed=name)


Made = Iterator[tuple[str, Instances, int | str]]


def _orientations() -> Made:
    axes = np.eye(3)
    for (first, second), signs in product(permutations(range(3), 2), product((1, -1), repeat=2)):
        orientation = (*(signs[0] * axes[first]), *(signs[1] * axes[second]))
        name = f"orientation-{first}{second}{''.join('+' if sign > 0 else '-' for sign in signs)}"
        yield name, ct(name, orientation=orientation), 1
        # Slices that descend along the normal, and arrive in that order.
        yield f"{name}-mr", mr(f"{name}-mr", orientation=orientation)[::-1], 1
    for number, (turn, nod) in enumerate(((10, 0), (0, 25), (15, 20), (44, -30), (-50, 12), (88, 3))):
        a, b = np.deg2rad((turn, nod))
        row = np.array((np.cos(a), np.sin(a), 0.0))
        column = np.cos(b) * np.array((-np.sin(a), np.cos(a), 0.0)) + np.sin(b) * np.array((0.0, 0.0, 1.0))
        yield f"oblique-{number}", mr(f"oblique-{number}", orientation=(*row, *column)), 1


def _leaning() -> Made:
    for degrees in (-30, -18, -7, -1, 1, 7, 18, 30, 44):
        yield f"tilt{degrees}", ct(f"tilt{degrees}", tilt_deg=degrees), 1
    yield "tilt60", ct("tilt60", tilt_deg=60), "gantry-tilt"
    yield "shifted", ct("shifted", edit=moved({4: (10.0, 0.0, 0.0)})), 1
    yield "shifted-far", ct("shifted-far", edit=moved({4: (60.0, 0.0, 0.0)})), "slices-not-aligned"


def _gaps() -> Made:
    yield "gap-1", drop_slice(ct("gap-1"), slice_number=4), 1
    yield "gap-first", drop_slice(ct("gap-first"), slice_number=1), 1
    yield "gap-last", drop_slice(ct("gap-last"), slice_number=N_SLICES), 1
    yield "gap-every-second", ct("gap-every-second")[::2], 1
    yield "gap-3-of-20", [*ct("gap-3", 20)[:8], *ct("gap-3", 20)[11:]], 1
    yield "gap-half", [*ct("gap-half", 20)[:4], *ct("gap-half", 20)[-4:]], "slice-gap"
    yield "changing-distances", ct("changing", edit=moved({n: (0, 0, 2.5 * (n - 4)) for n in range(5, N_SLICES)})), 1
    yield "jitter", ct("jitter", edit=moved({n: (0, 0, 0.04 * (-1) ** n) for n in range(N_SLICES)})), 1
    yield "contradicting", ct("contradicting", edit=setting(SpacingBetweenSlices=1.0, SliceThickness=99.0)), 1
    yield "very-thick", ct("very-thick", 4, spacing_mm=(40.0, 4.0, 3.5)), 1
    yield "not-square", ct("not-square", spacing_mm=(5.0, 8.0, 2.0)), 1
    for n_slices in (1, 2):
        yield f"slices-{n_slices}", ct(f"slices-{n_slices}", n_slices), "too-few-slices"
    yield "slices-3", ct("slices-3", 3), 1
    for position in ("FFS", "HFP", "HFDL", "FFDR"):
        yield f"position-{position}", mr(f"position-{position}", edit=setting(PatientPosition=position)), 1


def _stacks() -> Made:
    yield "echoes-2", _repeated("echoes-2", [{"EchoTime": 5.0 * n} for n in (1, 2)]), 2
    yield "echoes-16", _repeated("echoes-16", [{"EchoTime": 5.0 * n} for n in range(1, 17)]), 16
    yield "echoes-17", _repeated("echoes-17", [{"EchoTime": 5.0 * n} for n in range(1, 18)]), "multiple-time-points"
    yield "echo-incomplete", _repeated("echo-incomplete", [{"EchoTime": 5.0}, {"EchoTime": 10.0}])[:-1], 2
    diffusion: list[dict[str, Any]] = [{"DiffusionBValue": 0.0}]
    for n in range(6):
        angle = n * np.pi / 6
        direction = [float(np.cos(angle)), float(np.sin(angle)), 0.0]
        diffusion.append({"DiffusionBValue": 1000.0, "DiffusionGradientOrientation": direction})
    yield "dti", _repeated("dti", diffusion), 2
    yield "dynamic-5", _repeated("dynamic-5", [{"TemporalPositionIdentifier": n} for n in range(1, 6)]), 1
    yield "dynamic-40", _repeated("dynamic-40", [{"TemporalPositionIdentifier": n} for n in range(1, 41)]), 1
    yield "cardiac", _repeated("cardiac", [{"TriggerTime": 50.0 * n} for n in range(10)]), 1
    parts = [{"ImageType": ["ORIGINAL", "PRIMARY", part]} for part in ("M", "P")]
    yield "magnitude-phase", _repeated("magnitude-phase", parts), 1
    yield "by-order-only", _repeated("by-order-only", [{}, {}, {}]), 1
    yield "energies", [*ct("energies"), *_other_uids(ct("energies", edit=setting(KVP=140)))], 2
    yield (
        "orientations-2",
        [*mr("orientations-2"), *_of_series("orientations-2", mr("o2", orientation=(1, 0, 0, 0, 1, 0)))],
        2,
    )
    yield "orientations-and-one", [*mr("o-and-one"), *_of_series("o-and-one", ct("o1", 1))], 1
    yield "sizes-2", [*ct("sizes-2"), *_of_series("sizes-2", ct("s2", rows=30, columns=28))], 2
    yield "sizes-and-one", [*ct("sizes-and-one"), *_of_series("sizes-and-one", ct("s1", 1, rows=30))], 1
    yield "twice-the-same", [*ct("twice"), *ct("twice")[2:5]], 1
    yield "sizes-and-two", [*ct("sizes-and-two"), *_of_series("sizes-and-two", ct("s1", 2, rows=30))], "mixed-sizes"
    yield "orientations-and-two", [*mr("o-and-two"), *_of_series("o-and-two", ct("o1", 2))], "mixed-orientations"
    yield "slices-twice", [*ct("slices-twice"), *_other_uids(ct("slices-twice"))[2:4]], 1
    changed = ct("positions-twice", edit=lambda ds, _: setattr(ds, "PixelData", ds.PixelData[::-1]))
    yield "positions-twice", [*ct("positions-twice"), *_other_uids(changed)[2:4]], "duplicate-positions"
    yield (
        "frames-of-reference",
        ct("frames-of-reference", edit=frame_of_reference_by_slice),
        "mixed-frames-of-reference",
    )


def _encodings() -> Made:
    for word, uid in SYNTAXES.items():
        yield f"ct-{word}", ct(f"ct-{word}", transfer_syntax_uid=uid), 1
        yield f"mr-{word}", mr(f"mr-{word}", transfer_syntax_uid=uid), 1
        name = f"enhanced-{word}"
        yield name, [enhanced_mr(mr(name), transfer_syntax_uid=uid)], 1
    yield "enhanced-shuffled", [enhanced_mr(mr("shuffled"), frame_order=(3, 0, 8, 5, 1, 7, 2, 6, 4))], 1
    yield (
        "enhanced-two-instances",
        [enhanced_mr(mr("two"), frame_order=range(4)), enhanced_mr(mr("two"), frame_order=range(4, 9))],
        1,
    )
    for word, frames, missing in (
        ("whole", ((0, 1, 2, 3), (4, 5, 6, 7, 8)), 1),
        ("part", ((0, 1, 2, 3),), "concatenation-incomplete"),
    ):
        name = f"concatenation-{word}"
        instances = [
            enhanced_mr(
                mr(name),
                frame_order=order,
                edit=setting_now(
                    ConcatenationUID=uid_of(name), InConcatenationNumber=number, InConcatenationTotalNumber=2
                ),
            )
            for number, order in enumerate(frames, start=1)
        ]
        yield name, instances, missing
    yield (
        "enhanced-no-groups",
        [enhanced_mr(mr("no-groups"), edit=without_now("PerFrameFunctionalGroupsSequence"))],
        "geometry-missing",
    )
    yield (
        "enhanced-frames-lied",
        [enhanced_mr(mr("frames-lied"), edit=setting_now(NumberOfFrames=90))],
        "geometry-missing",
    )


def _lose_rescale(ds: Dataset) -> None:
    del ds.RescaleSlope, ds.RescaleIntercept


def _wrong_rescale(ds: Dataset, index: int) -> None:
    ds.RescaleIntercept = 0 if index == 4 else -1024


def _pixels() -> Made:
    yield "monochrome1", ct("monochrome1", edit=setting(PhotometricInterpretation="MONOCHROME1")), 1
    yield "monochrome1-mr", mr("monochrome1-mr", edit=setting(PhotometricInterpretation="MONOCHROME1")), 1
    yield "padding", ct("padding", edit=setting(PixelPaddingValue=24)), 1
    yield "rescale-lost", ct("rescale-lost", edit=lambda ds, n: _lose_rescale(ds) if n == 4 else None), 1
    yield "rescale-wrong", ct("rescale-wrong", edit=_wrong_rescale), "rescale-differs"
    yield "slope-by-slice", ct("slope-by-slice", edit=lambda ds, n: ds.update({"RescaleSlope": n + 1})), 1
    yield "no-rescale", ct("no-rescale", edit=without("RescaleSlope", "RescaleIntercept")), 1
    yield "bits-12", ct("bits-12", edit=setting(BitsStored=12, HighBit=11)), 1
    yield "bits-none", ct("bits-none", edit=setting(BitsStored=0)), "pixel-format"
    yield "bits-high", ct("bits-high", edit=setting(HighBit=3)), "pixel-format"
    yield "rows-huge", ct("rows-huge", edit=setting(Rows=65535, Columns=65535)), "pixel-format"
    yield "rows-zero", ct("rows-zero", edit=setting(Rows=0)), "pixel-format"
    yield "pixels-short", ct("pixels-short", edit=setting(Rows=ROWS + 6)), "pixel-data-truncated"
    yield "slope-zero", ct("slope-zero", edit=setting(RescaleSlope=0)), "rescale"
    yield "colour", ct("colour", edit=setting(SamplesPerPixel=3, PhotometricInterpretation="RGB")), "colour-image"


def _damaged() -> Made:
    for share in (0.5, 0.9, 0.99):
        name = f"cut-{share:.0%}"
        yield (
            name,
            with_one(ct(name), lambda part10, share=share: part10[: int(len(part10) * share)]),
            "pixel-data-truncated",
        )
    for word in ("rle", "jpeg-2000", "jpeg-ls"):
        name = f"cut-{word}"
        yield name, with_one(ct(name, transfer_syntax_uid=SYNTAXES[word]), lambda p: p[:-80]), "pixel-data-"
    yield "deep", with_one(ct("deep"), deep_sequence), "nested-too-deeply"
    yield "many-items", with_one(ct("many-items"), many_items), 1


def _attributes() -> Made:
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        yield f"without-{keyword}", ct(f"without-{keyword}", edit=without(keyword)), "geometry-missing"
    for keyword in ("Rows", "Columns", "BitsAllocated"):
        yield f"without-{keyword}", ct(f"without-{keyword}", edit=without(keyword)), "pixel-format"
    yield "without-PixelData", ct("without-PixelData", edit=without("PixelData")), "no-pixel-data"
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        name = f"without-{keyword}"
        yield name, [one.edited(without_now(keyword)) for one in ct(name)], "uid-missing"
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        yield (
            f"empty-{keyword}",
            [one.edited(setting_now(**{keyword: ""})) for one in ct(f"empty-{keyword}")],
            "uid-missing",
        )
    yield (
        "without-one-position",
        with_edit(ct("without-one-position"), without_now("ImagePositionPatient")),
        "geometry-missing",
    )
    for value in ([float("nan"), 0, 0], [1e300, 0, 0], [0, 0]):
        name = f"position-{value[0]:g}-{len(value)}"
        yield name, ct(name, edit=text("ImagePositionPatient", "\\".join(map(str, value)))), "geometry-missing"
    yield "orientation-zero", ct("orientation-zero", edit=setting(ImageOrientationPatient=[0] * 6)), "geometry-missing"
    yield (
        "orientation-skewed",
        ct("orientation-skewed", edit=setting(ImageOrientationPatient=[1, 0, 0, 0.7, 0.7, 0])),
        "geometry-missing",
    )
    yield "spacing-zero", ct("spacing-zero", edit=setting(PixelSpacing=[0, 1])), "geometry-missing"
    yield "spacing-negative", ct("spacing-negative", edit=setting(PixelSpacing=[-1, 1])), "geometry-missing"
    yield (
        "position-no-number",
        ct("position-no-number", edit=text("ImagePositionPatient", "left\\of\\here")),
        "geometry-missing",
    )
    yield "numbers-no-numbers", ct("numbers-no-numbers", edit=text("InstanceNumber", "first")), 1
    yield "rows-in-words", ct("rows-in-words", edit=wrong_vr("Rows", "LO", "many")), "pixel-format"
    yield (
        "spacing-in-words",
        ct("spacing-in-words", edit=wrong_vr("PixelSpacing", "LO", "wide\\high")),
        "geometry-missing",
    )
    yield "no-frame-of-reference", ct("no-frame-of-reference", edit=without("FrameOfReferenceUID")), 1
    yield "names", ct("names", edit=setting(PatientName="<script>'\"\\^%00;--", SeriesDescription="../../etc")), 1


def _other_objects() -> Made:
    yield "localizer", ct("localizer", 2, edit=setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])), "localizer"
    yield "mosaic", mr("mosaic", edit=setting(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])), "mosaic"
    yield (
        "with-a-localizer",
        [
            *ct("with-a-localizer"),
            *_of_series("with-a-localizer", ct("l", 1, edit=setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))),
        ],
        1,
    )
    for word, uid, expected in (
        ("capture", SecondaryCaptureImageStorage, "secondary-capture"),
        ("pet", PositronEmissionTomographyImageStorage, "pet"),
        ("spectra", MRSpectroscopyStorage, "spectroscopy"),
        ("private-class", "1.2.276.0.99.1", "not-ct-or-mr"),
    ):
        yield word, ct(word, 3, edit=setting(SOPClassUID=uid)), expected
    conflict = setting_now(PixelData=b"\x01\x00" * ROWS * COLUMNS)
    yield "conflict", [*ct("conflict"), ct("conflict")[3].edited(conflict)], "conflicting-instance"
    for word, content in (
        ("empty", b""), ("text", b"This is no DICOM file.\n" * 40), ("noise", np.random.default_rng(1).bytes(4000)),
        ("preamble", b"\0" * 128 + b"DICM"),
        ("preamble-and-noise", b"\0" * 128 + b"DICM" + np.random.default_rng(2).bytes(900)),
    ):  # fmt: skip
        yield f"file-{word}", [EncodedInstance(word, content)], "not-dicom|unreadable|sop-class-missing"


def _repeated(name: str, values: Sequence[dict[str, Any]]) -> list[EncodedInstance]:
    """An MR series in which each slice was taken several times, with other values of some attributes."""
    instances = []
    for number, changed in enumerate(values):

        def edit(ds: Dataset, index: int, number: int = number, changed: dict[str, Any] = changed) -> None:
            ds.update(changed)
            ds.SOPInstanceUID = uid_of(name, "instance", number, index)
            ds.InstanceNumber = number * N_REPEATED_SLICES + index + 1
            ds.ContentTime = f"10{number // 60:02d}{number % 60:02d}"

        instances += mr(name, N_REPEATED_SLICES, edit=edit)
    return instances


def _other_uids(instances: Instances) -> list[EncodedInstance]:
    """The same series, other instances of it."""
    return [
        one.edited(lambda ds: ds.update({"SOPInstanceUID": uid_of(ds.SOPInstanceUID, "again")})) for one in instances
    ]


def _of_series(name: str, instances: Instances) -> list[EncodedInstance]:
    """Instances as parts of another series."""
    uids = {f"{level}InstanceUID": uid_of(name, level.lower()) for level in ("Study", "Series")}
    uids["FrameOfReferenceUID"] = uid_of(name, "frame of reference")
    return [one.edited(lambda ds: ds.update(uids)) for one in instances]
