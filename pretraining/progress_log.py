"""Log a run: a CSV file, TensorBoard, pictures."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pretraining.method import Panel

LOG, PICTURES, TENSORBOARD = "log.csv", "pictures", "tensorboard"
_SIDE: Final = 256  # of a panel, pixels
_TITLE: Final = 18


class RunLog:
    """Writes what a run finds; rows of steps after ``first_step``, which a killed run left, are taken away.

    Parameters
    ----------
    first_step
        Number of steps that are done.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        self._path = folder / LOG
        self._rows = [row for row in _read_rows(self._path) if int(row["step"]) <= first_step]
        self._write_all()
        make_writer: Any = SummaryWriter
        self._board = make_writer(str(folder / TENSORBOARD), purge_step=first_step + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._board.close()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add a row; ``step`` is the number of steps done."""
        row = {"step": str(step), **{key: f"{value:.6g}" for key, value in values.items()}}
        is_new = not self._rows or list(self._rows[-1]) != list(row)
        self._rows.append(row)
        if is_new:
            self._write_all()
        else:
            with self._path.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, list(row), lineterminator="\n").writerow(row)
        for key, value in values.items():
            self._board.add_scalar(key, value, step)

    def draw(self, step: int, panels: Sequence[Panel]) -> None:
        """Write a picture of a sample."""
        picture = compose(panels)
        folder = self._folder / PICTURES
        folder.mkdir(exist_ok=True)
        picture.save(folder / f"step-{step:07d}.png")
        self._board.add_image("sample", np.asarray(picture), step, dataformats="HWC")

    def _write_all(self) -> None:
        columns = list(dict.fromkeys(key for row in self._rows for key in row)) or ["step"]
        partial = self._path.with_name(f"{LOG}.part")
        with partial.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            table.writeheader()
            table.writerows(self._rows)
        partial.replace(self._path)


def compose(panels: Sequence[Panel]) -> Image.Image:
    """Return the panels side by side, with their titles."""
    width = (_SIDE + 4) * len(panels)
    whole = Image.new("RGB", (width, _SIDE + _TITLE), "lightgrey")
    pen = ImageDraw.Draw(whole)
    for index, panel in enumerate(panels):
        plane = Image.fromarray(_rgb(panel.pixels))
        size = _fitted(plane.size)
        whole.paste(plane.resize(size, Image.Resampling.NEAREST), (index * (_SIDE + 4), _TITLE))
        pen.text((index * (_SIDE + 4) + 2, 3), panel.title, fill="black")
    return whole


def _rgb(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8 and pixels.ndim == 3:
        return np.ascontiguousarray(pixels)
    grey = (np.nan_to_num(pixels.astype(np.float32)).clip(0, 1) * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _fitted(size: tuple[int, int]) -> tuple[int, int]:
    factor = _SIDE / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError:
        return []
    return [row for row in rows if (row.get("step") or "").isdigit() and None not in row.values()]
