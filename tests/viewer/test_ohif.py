"""A real viewer opens a CT with our SEG, SR and KOS: OHIF in Chromium, served with the files of ``config/ohif``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from tests.factories import ct_series
from tests.node_process import start_node, wait_for
from tests.peer_servers import free_port, run_tool, start_nginx_servers
from tests.tiny_models import write_tiny_model
from tests.viewer.installed import ohif_site, run_script

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

CONFIG = Path(__file__).parents[2] / "config" / "ohif"
BODY_ABOVE_HU = -500.0
LUMP_ABOVE_HU = 1100.0  # the phantom's lump towards the patient's left, at 1400 HU
GRID = {"spacing_mm": (4.0, 1.5, 1.5)}  # of series and models, so that nothing is interpolated
SERIES = ct_series(32, rows=160, columns=128, **GRID)


@dataclass(frozen=True)
class Seen:
    """What the viewer has shown."""

    origin: str
    found: dict[str, Any]
    pixels: NDArray[np.int16]  # (row, column, RGB) of the pane with the images

    def coloured(self, *, warm: bool) -> NDArray[np.bool_]:
        """Pixels of a blueish or orange overlay; the images are grey."""
        red, _, blue = np.moveaxis(self.pixels, -1, 0)
        mask = ndimage.binary_opening((red - blue if warm else blue - red) > 20, iterations=2)  # no contours
        numbers, n_parts = ndimage.label(mask)
        largest = 1 + np.argmax(ndimage.sum_labels(mask, numbers, range(1, n_parts + 1)))  # no buttons
        return np.asarray(numbers == largest)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the viewer's site, with a node that has processed the series after it."""
    site = ohif_site()
    folder = tmp_path_factory.mktemp("viewer")
    rules = folder / "rules.yaml"
    rules.write_text(
        yaml.safe_dump({"series": [{"name": "all", "action": "process"}], "study": {"only_not_applicable": "cleared"}})
    )
    settings = {
        "models": {
            role: str(write_tiny_model(folder / role, role, above=above, **GRID))
            for role, above in (("foreground", BODY_ABOVE_HU), ("anonymized", LUMP_ABOVE_HU))
        },
        "rules": str(rules),
    }
    port = free_port()
    with start_node(folder / "node", settings) as node:
        sent = run_tool("storescu", "-aec", node.ae_title, node.host, node.port, *SERIES.write_to(folder / "ct"))
        assert sent.returncode == 0, sent.stdout
        study = f"{node.dicomweb_url}/studies/{SERIES.study_instance_uid}/series"

        def modalities() -> set[str]:
            return {one["00080060"]["Value"][0] for one in httpx.get(study, trust_env=False, timeout=60).json()}

        wait_for("SEG, SR and KOS", lambda: modalities() == {"CT", "SEG", "SR", "KO"})
        places = {
            "LISTEN": f"127.0.0.1:{port}",
            "SITE": str(site),
            "APP_CONFIG": str(CONFIG / "app-config.js"),
            "NODE": node.url,
        }
        servers = Template((CONFIG / "site.conf.template").read_text()).safe_substitute(places)
        with start_nginx_servers(folder, servers, port=port):
            yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def seen(origin: str, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("seen")
    run_script(
        "open_study.mjs", f"{origin}/viewer?StudyInstanceUIDs={SERIES.study_instance_uid}", folder, timeout_s=300
    )
    found = json.loads((folder / "found.json").read_text())
    with Image.open(folder / "segmentation.png") as picture:
        return Seen(origin, found, np.asarray(picture.convert("RGB"), dtype=np.int16))


def test_seg_and_sr_open_together_without_an_error(seen: Seen) -> None:
    assert seen.found["errors"] == []
    assert seen.found["segments"] == ["1\nForeground", "2\nAnonymized area"]
    assert "Entire body" in seen.found["report"]
    assert "No face in the field of view" in seen.found["report"]


def test_both_segments_lie_where_the_image_shows_them(seen: Seen) -> None:
    middle = SERIES.voxels[len(SERIES) // 2]
    body, lump = (middle > above for above in (BODY_ABOVE_HU, LUMP_ABOVE_HU))
    warm = seen.coloured(warm=True)
    both = warm | seen.coloured(warm=False)
    assert np.count_nonzero(warm) / np.count_nonzero(both) == pytest.approx(lump.sum() / body.sum(), rel=0.1)
    assert offset_in_widths(warm, both) == pytest.approx(offset_in_widths(lump, body), abs=0.03)


def offset_in_widths(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    """How far the centre of a part lies to the right of the whole's, in widths of the whole."""
    middle = ndimage.center_of_mass
    return float((middle(part)[1] - middle(whole)[1]) / np.ptp(np.nonzero(whole.any(axis=0))[0]))


def test_the_viewer_asks_nobody_else(seen: Seen) -> None:
    others = {
        url.split("?")[0]
        for url in seen.found["requests"]
        if not url.startswith((f"{seen.origin}/", f"blob:{seen.origin}/", "data:"))
    }
    assert others == set()
    assert any(url.startswith(f"{seen.origin}/dicom-web/studies/") for url in seen.found["requests"])
