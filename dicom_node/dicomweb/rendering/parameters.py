"""Parameters of rendered resources: window, viewport and quality (PS3.18 8.3.5.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dicom_node.dicomweb.errors import BadRequestError

MAX_VIEWPORT_PIXELS: Final = 8192  # of each side
MAX_CHARACTERS: Final = 256
DEFAULT_QUALITY: Final = 90
THUMBNAIL_PIXELS: Final = 128
FUNCTIONS: Final = ("linear", "linear-exact", "sigmoid")


@dataclass(frozen=True, slots=True)
class Window:
    """Values to be shown, in the unit of the image after rescaling (PS3.3 C.11.2.1.2 and .3)."""

    center: float
    width: float
    function: str = "linear"


@dataclass(frozen=True, slots=True)
class Viewport:
    """The largest size of the picture, and the region of the image that it shows; None means to the edge.

    A picture without width and height has those of the region. A negative width or height of the region mirrors it. A
    region in fractions has sides from 0 to 1.
    """

    width: int | None
    height: int | None
    x: float = 0.0
    y: float = 0.0
    region_width: float | None = None
    region_height: float | None = None
    is_in_fractions: bool = False

    @property
    def limits(self) -> tuple[int, int]:
        """Largest width and height of the picture, whatever the region's shape."""
        return self.width or MAX_VIEWPORT_PIXELS, self.height or MAX_VIEWPORT_PIXELS


@dataclass(frozen=True, slots=True)
class RenderParameters:
    """How an image is shown."""

    window: Window | None = None
    viewport: Viewport | None = None
    quality: int = DEFAULT_QUALITY


def parse_parameters(query: Mapping[str, str], *, is_thumbnail: bool = False) -> RenderParameters:
    """Read the parameters; raise `BadRequestError` with the one that is wrong."""
    viewport = parse_viewport(query["viewport"]) if "viewport" in query else None
    if viewport is None and is_thumbnail:
        viewport = Viewport(THUMBNAIL_PIXELS, THUMBNAIL_PIXELS)
    return RenderParameters(
        parse_window(query["window"]) if "window" in query else None,
        viewport,
        parse_quality(query["quality"]) if "quality" in query else DEFAULT_QUALITY,
    )


def parse_window(text: str) -> Window:
    """Read ``center,width,function``; the function may be left out."""
    expected = f"center,width,function with a function of {', '.join(FUNCTIONS)}, such as 40,400,linear"
    parts = text.split(",")
    function = parts[2].strip().lower() if len(parts) == 3 else "linear"
    numbers = [finite_number(part) for part in parts[:2]]
    if len(parts) not in (2, 3) or function not in FUNCTIONS or None in numbers:
        raise BadRequestError("parameter window", text, expected)
    return make_window(numbers[0] or 0.0, numbers[1] or 0.0, function, text)


def make_window(center: float, width: float, function: str, text: str) -> Window:
    """Return a window; raise `BadRequestError` if it has no width."""
    smallest = 1.0 if function == "linear" else 0.0
    if width < smallest or (width == 0.0 and function != "linear"):
        raise BadRequestError("parameter window", text, "a width of at least 1 (linear), or above 0 (others)")
    return Window(center, width, function)


def parse_viewport(text: str) -> Viewport:
    """Read ``vw,vh`` or ``vw,vh,sx,sy,sw,sh``, of which the last four may be empty."""
    expected = (
        f"vw,vh or vw,vh,sx,sy,sw,sh: the picture's size, 1 to {MAX_VIEWPORT_PIXELS}, and the region of the image, "
        "such as 512,512"
    )
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in (2, 6) or len(text) > MAX_CHARACTERS:
        raise BadRequestError("parameter viewport", text, expected)
    numbers = [finite_number(part) if part else None for part in parts]
    if any(number is None and part for number, part in zip(numbers, parts, strict=True)):
        raise BadRequestError("parameter viewport", text, expected)
    size = [number for number in numbers[:2] if number is not None and number == int(number)]
    if len(size) != 2 or not all(1 <= side <= MAX_VIEWPORT_PIXELS for side in size):
        raise BadRequestError("parameter viewport", text, expected)
    x, y, width, height = numbers[2:] if len(numbers) == 6 else (None, None, None, None)
    if 0.0 in (width, height) or (x or 0.0) < 0 or (y or 0.0) < 0:
        raise BadRequestError("parameter viewport", text, expected)
    return Viewport(int(size[0]), int(size[1]), x or 0.0, y or 0.0, width, height)


def parse_quality(text: str) -> int:
    """Read a quality from 1 to 100."""
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= 100):
        raise BadRequestError("parameter quality", text, "a number from 1 to 100")
    return int(text)


def finite_number(text: str) -> float | None:
    """Return a finite number, or None."""
    try:
        number = float(text) if len(text) <= 32 else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None
