"""Settings of objects in an S3-compatible store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, HttpUrl

from dicom_node.settings.section import Section

GIB = 2**30


class ObjectsSettings(Section):
    """How the bucket of `node.objects_url` is reached; credentials come from AWS's own variables and files."""

    endpoint_url: HttpUrl | None = Field(
        default=None, description="URL of the S3-compatible server; Amazon's, for the region, when empty"
    )
    region: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9-]{1,64}$",
        description="region of the bucket; that of AWS_DEFAULT_REGION or ~/.aws/config, else us-east-1, when empty",
    )
    path_style: bool | None = Field(
        default=None,
        description="whether the bucket's name is in the path of addresses and not in the host name; when empty: only "
        "with endpoint_url",
    )
    ca_file: Path | None = Field(
        default=None, description="certificates that sign the server's; those that botocore brings along when empty"
    )
    cache_bytes: int = Field(
        default=20 * GIB,
        ge=0,
        description="local copies of objects in data_dir, all together; those that were not used for longest go first",
    )
    timeout_s: Annotated[float, Field(gt=0, le=60)] = Field(
        default=10.0, description="time for each answer of the server; a request is tried twice while a sender waits"
    )
