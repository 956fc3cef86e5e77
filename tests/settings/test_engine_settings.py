"""Where `work` computes: what fits together."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.engines import check_engine
from dicom_node.errors import NodeError
from dicom_node.settings import load_settings

ON_DASK = "work:\n  engine: dask\n"


def said_of(tmp_path: Path, text: str) -> str:
    """What is wrong with these settings."""
    path = tmp_path / "node.yaml"
    path.write_text(text)
    with pytest.raises(NodeError) as refused:
        check_engine(load_settings(path, {}))
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ON_DASK, "engine is dask, so dask_address is needed"),
        (ON_DASK + "  dask_address: head:8786\n", "work.dask_address"),
        (ON_DASK + "  dask_address: tcp://head:8786\n", "or work.dask_plain: true where nobody else reaches"),
        (ON_DASK + "  dask_address: tls://head:8786\n", "the cluster's CA file: is not named"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_its_key(tmp_path: Path, text: str, said: str) -> None:
    assert said in said_of(tmp_path, text)


def test_a_scheduler_on_this_machine_needs_no_certificate(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(ON_DASK + "  dask_address: tcp://127.0.0.1:8786\n")

    check_engine(load_settings(path, {}))
