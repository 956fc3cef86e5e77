"""Instances in a vendor's transfer syntax go out as they are stored, and are never decoded."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread

from tests.arrivals import receive_bytes
from tests.dicomweb.serving import serve
from tests.dimse.raw_peer import dataset_part
from tests.dimse.test_private_objects import GE_IMPLICIT_BIG_ENDIAN_PIXELS, in_ge_syntax
from tests.factories import ct_series
from tests.new_store import NewStore

ANY_SYNTAX = "; transfer-syntax=*"


@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, about GE's transfer syntax
def test_only_the_instance_itself_is_available(new_store: NewStore, tmp_path: Path) -> None:
    part10 = in_ge_syntax(ct_series(n_slices=1, rows=16)[0].part10)
    ds = dcmread(BytesIO(part10))
    with new_store(tmp_path) as store:
        receive_bytes(store, dataset_part(part10), ds)
        with serve(store) as url:
            root = f"{url}/dicom-web/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}"
            instance = f"{root}/instances/{ds.SOPInstanceUID}"

            def get(path: str, accept: str) -> httpx.Response:
                return httpx.get(instance + path, headers={"Accept": accept}, trust_env=False, timeout=60)

            dicom, octets = (
                'multipart/related; type="application/dicom"',
                'multipart/related; type="application/octet-stream"',
            )
            stored = get("", dicom + ANY_SYNTAX)
            assert stored.status_code == 200
            assert dataset_part(part10) in stored.content
            assert f"transfer-syntax={GE_IMPLICIT_BIG_ENDIAN_PIXELS}".encode() in stored.content
            metadata = get("/metadata", "application/dicom+json")
            assert metadata.status_code == 200
            assert metadata.json()[0]["00280010"] == {"vr": "US", "Value": [16]}
            for path, accept in (
                ("", dicom),
                ("/frames/1", octets),
                ("/frames/1", octets + ANY_SYNTAX),
                ("/bulkdata/7FE00010", "*/*"),
            ):
                refused = get(path, accept)
                assert refused.status_code == 406, path
                assert GE_IMPLICIT_BIG_ENDIAN_PIXELS in refused.json()["detail"]
