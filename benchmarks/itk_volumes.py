"""Read a folder with SimpleITK's readers (GDCM) in a separate process, because they may crash on unusual files.

python -m benchmarks.itk_volumes FOLDER OUT
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import SimpleITK as sitk


def read_all(folder: Path) -> Iterator[sitk.Image]:
    """Yield every series below ``folder``, read as in SimpleITK's examples; multi-frame instances one by one."""
    for place in sorted({path.parent for path in folder.rglob("*") if path.is_file()}):
        for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(place)):
            names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(place), uid)
            for readable in names if n_frames(names[0]) > 1 else [names]:
                try:
                    yield sitk.ReadImage(readable)
                except RuntimeError as error:  # everything that ITK raises
                    print(str(error).strip().splitlines()[-1], file=sys.stderr)


def n_frames(name: str) -> int:
    """Return the number of frames of an instance; 0 if GDCM cannot read it."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(name)
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return 0
    return int(reader.GetSize()[2])


def main(folder: Path, out: Path) -> None:
    """Write every scalar volume of the folder with its geometry as MetaImage."""
    for number, image in enumerate(read_all(folder)):
        if image.GetNumberOfComponentsPerPixel() == 1 and image.GetDimension() == 3:
            sitk.WriteImage(image, str(out / f"{number:03d}.mha"))


if __name__ == "__main__":
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
