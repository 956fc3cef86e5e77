"""Attributes that distinguish planes at one position: contrast (echo, b-value, phase), repetition (time, direction)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from inference.series.header_values import first_value, private_value
from inference.series.instances import reading
from inference.series.objects import image_type_of
from inference.series.planes import Plane

MAX_NAME_LENGTH = 64
GE_B_VALUE_OFFSET = 1_000_000_000  # GE adds it to some b-values, as dcm2niix's authors found
GE_COMPLEX_COMPONENTS: Mapping[int, str] = MappingProxyType({0: "MAGNITUDE", 1: "PHASE", 2: "REAL", 3: "IMAGINARY"})
NOT_MAGNITUDE = frozenset({"PHASE", "REAL", "IMAGINARY", "P", "R", "I", "PHASE MAP", "PHASE_MAP"})


@dataclass(frozen=True, slots=True)
class Trait:
    """An attribute that may differ between planes at one position.

    Attributes
    ----------
    is_contrast
        Whether it changes how the image looks; otherwise it distinguishes repetitions of one image.
    """

    name: str
    is_contrast: bool
    read: Callable[[Plane], str]


def traits_of(plane: Plane) -> tuple[str, ...]:
    """Return the values of TRAITS as text, empty if unknown; slow, so call it only if planes must be distinguished."""
    with reading(plane.instance.name):
        return tuple(trait.read(plane) for trait in TRAITS)


def order_keys(plane: Plane) -> tuple[tuple[float, ...] | None, ...]:
    """Return keys that may order repetitions of one image (number, times); each is None if unknown."""
    with reading(plane.instance.name):
        number = _number(first_value(plane.places, "InstanceNumber"))
        frame = float(plane.frame_index)
        times = (
            _number(first_value(plane.places, keyword)) for keyword in ("AcquisitionTime", "ContentTime", "TriggerTime")
        )
        return (None if number is None else (number, frame), *((None if t is None else (t,)) for t in times))


def is_magnitude(image_type: str) -> bool:
    """Whether an Image Type, as text, names no phase, real or imaginary part of a complex image."""
    return not NOT_MAGNITUDE.intersection(image_type.split("\\"))


def as_name(values: Mapping[str, str]) -> str:
    """Return the name of a stack from its distinguishing values, in plain ASCII of bounded length."""
    words = ", ".join(f"{name} {value}" if value else f"no {name}" for name, value in values.items())
    words = words.replace("\\", "/")
    return "".join(letter if " " <= letter <= "~" else "?" for letter in words)[:MAX_NAME_LENGTH].rstrip(" ,")


def _attribute(*keywords: str) -> Callable[[Plane], str]:
    """Return a function that reads the first of several attributes that has a value."""

    def read(plane: Plane) -> str:
        return next((_text(v) for k in keywords if (v := first_value(plane.places, k)) is not None), "")

    return read


def _image_type(plane: Plane) -> str:
    """Return Frame Type or Image Type, completed by the complex component that other attributes name."""
    frame_type = first_value(plane.places, "FrameType")
    values = [str(v).strip().upper() for v in frame_type] if frame_type else list(image_type_of(plane.places[-1]))
    component = first_value(plane.places, "ComplexImageComponent")
    if component is None:
        ge = _number(private_value(plane.places, 0x0043, "GEMS_PARM_01", 0x2F))
        component = None if ge is None else GE_COMPLEX_COMPONENTS.get(int(ge))
    if component and str(component) not in values:
        values.append(str(component))
    return "\\".join(values)


def _b_value(plane: Plane) -> str:
    """Diffusion b-value in s/mm2, from the standard's attribute or a vendor's."""
    value = first_value(plane.places, "DiffusionBValue")
    for group, creator, element in (
        (0x0019, "SIEMENS MR HEADER", 0x0C),
        (0x2001, "Philips Imaging DD 001", 0x03),
        (0x0043, "GEMS_PARM_01", 0x39),
        (0x0065, "Image Private Header", 0x09),
    ):
        if value is None:
            value = private_value(plane.places, group, creator, element)
    number = _number(value)
    return "" if number is None else _text(number % GE_B_VALUE_OFFSET)


def _gradient(plane: Plane) -> str:
    """Direction of the diffusion gradient, from the standard's attribute or a vendor's."""
    value = first_value(plane.places, "DiffusionGradientOrientation")
    nested = first_value(plane.places, "DiffusionGradientDirectionSequence")
    if value is None and nested:
        value = nested[0].get("DiffusionGradientOrientation")
    for group, creator, element in ((0x0019, "SIEMENS MR HEADER", 0x0E), (0x0065, "Image Private Header", 0x37)):
        if value is None:
            value = private_value(plane.places, group, creator, element)
    if value is not None:
        return _text(value)
    for group, creator, elements in (
        (0x0019, "GEMS_ACQU_01", (0xBB, 0xBC, 0xBD)),
        (0x2005, "Philips MR Imaging DD 001", (0xB0, 0xB1, 0xB2)),
    ):
        parts = [private_value(plane.places, group, creator, element) for element in elements]
        if all(part is not None for part in parts):
            return _text(parts)
    return ""


def _multi_frame_instance(plane: Plane) -> str:
    """The multi-frame instance, or the concatenation that it is a part of (PS3.3 C.7.6.16.2.2.4)."""
    if plane.frame_number is None:
        return ""
    return _text(first_value(plane.places, "ConcatenationUID") or first_value(plane.places, "SOPInstanceUID"))


TRAITS: tuple[Trait, ...] = (
    Trait("EchoTime", True, _attribute("EffectiveEchoTime", "EchoTime")),
    Trait("ImageType", True, _image_type),
    Trait("DiffusionBValue", True, _b_value),
    Trait("InversionTime", True, _attribute("InversionTimes", "InversionTime")),
    Trait("KVP", True, _attribute("KVP")),
    Trait("ConvolutionKernel", True, _attribute("ConvolutionKernel")),
    Trait("FlipAngle", True, _attribute("FlipAngle")),
    Trait("StackID", True, _attribute("StackID")),
    Trait("SeriesNumber", True, _attribute("SeriesNumber")),
    Trait("DiffusionGradientOrientation", False, _gradient),
    Trait("TemporalPosition", False, _attribute("TemporalPositionIndex", "TemporalPositionIdentifier")),
    Trait("TriggerTime", False, _attribute("NominalCardiacTriggerDelayTime", "TriggerTime")),
    Trait("AcquisitionNumber", False, _attribute("FrameAcquisitionNumber", "AcquisitionNumber")),
    Trait("AcquisitionTime", False, _attribute("FrameAcquisitionDateTime", "AcquisitionDateTime", "AcquisitionTime")),
    Trait("ContentTime", False, _attribute("ContentTime")),
    Trait("SequenceName", False, _attribute("SequenceName")),
    Trait("Instance", False, _multi_frame_instance),
)
REPETITION = "repetition"  # distinguished by order only


def _number(value: Any) -> float | None:  # noqa: ANN401  # whatever the VR says
    """A number, or the first of several."""
    try:
        return float(value[0] if isinstance(value, (list, tuple)) or hasattr(value, "append") else value)
    except (TypeError, ValueError, IndexError):
        return None


def _text(value: Any) -> str:  # noqa: ANN401  # whatever the VR says
    """Return a value as text in which numbers that differ only by rounding are equal."""
    if isinstance(value, str):
        number = _number(value)
        # Times and identifiers keep all their digits.
        return value.strip() if number is None or len(value.strip()) > 6 else f"{number:.6g}"
    if hasattr(value, "__iter__"):
        return "\\".join(_text(v) for v in value)
    number = _number(value)
    return str(value).strip() if number is None else f"{number:.6g}"
