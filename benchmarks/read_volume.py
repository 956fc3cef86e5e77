"""Read one series with one reader and print the time without imports, and a digest of the voxels.

python -m benchmarks.read_volume node|itk FOLDER
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def node_reader() -> Callable[[Path], NDArray[np.generic]]:
    """Return the node's reader."""
    from inference.series.assemble import assemble_volumes
    from inference.series.files import PathSource

    def read(folder: Path) -> NDArray[np.generic]:
        (source,) = assemble_volumes([PathSource(path) for path in folder.iterdir()])
        return source.volume.array

    return read


def itk_reader() -> Callable[[Path], NDArray[np.generic]]:
    """Return SimpleITK's series reader, used as in its examples."""
    import SimpleITK as sitk

    def read(folder: Path) -> NDArray[np.generic]:
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        images.append(reader.Execute())
        return sitk.GetArrayViewFromImage(images[-1])

    images: list[sitk.Image] = []  # a view does not keep its image alive
    return read


READERS = {"node": node_reader, "itk": itk_reader}


def main(name: str, folder: Path) -> None:
    """Read the folder once and print time and digest."""
    read = READERS[name]()
    began_at, cpu_began_at = time.perf_counter(), time.process_time()
    voxels = read(folder)
    measured = {"wall_s": time.perf_counter() - began_at, "cpu_s": time.process_time() - cpu_began_at}
    digest = hashlib.sha256()
    for plane in voxels:
        digest.update(plane.astype("<i2").tobytes())
    print(json.dumps(measured | {"sha256": digest.hexdigest()}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
