"""Targets of notices: who is told the state of every study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, HttpUrl

from dicom_node.settings.section import Name, Section

MIN_USER_METADATA, MAX_USER_METADATA = 1024, 65535  # Orthanc: smaller numbers are its own
DEFAULT_METADATA = 4410


def _without_password(url: HttpUrl) -> HttpUrl:
    if url.username is not None or url.password is not None:
        raise ValueError("must hold no user or password, which are read from the environment")
    return url


TargetUrl = Annotated[HttpUrl, AfterValidator(_without_password)]


class OrthancTarget(Section):
    """An Orthanc that shows the state of each of its studies as metadata, and as a label where it has labels."""

    kind: Literal["orthanc"] = Field(default="orthanc", description="the state is set through Orthanc's REST API")
    name: Name = Field(description="name of the target in `notices list` and in the log")
    url: TargetUrl = Field(description="root of the REST API, such as http://orthanc.example.org:8042")
    user: str | None = Field(default=None, min_length=1, description="user of HTTP basic authentication")
    password_env: str | None = Field(default=None, description="environment variable that holds the user's password")
    token_env: str | None = Field(default=None, description="environment variable that holds a bearer token")
    ca_file: Path | None = Field(default=None, description="certificates to trust instead of the system's")
    metadata: (
        Annotated[int, Field(ge=MIN_USER_METADATA, le=MAX_USER_METADATA)]
        | Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    ) = Field(
        default=DEFAULT_METADATA,
        description="metadata that holds the state: a number from 1024, or a name in Orthanc's UserMetadata",
    )
    label_prefix: str = Field(
        default="dicom-node",
        pattern=r"^[A-Za-z0-9_-]{1,40}$",
        description="labels are named prefix-state, such as dicom-node-cleared; other labels are left as they are",
    )


class WebhookTarget(Section):
    """A URL to which each change of a study's state is posted, signed."""

    kind: Literal["webhook"] = Field(default="webhook", description="the state is posted as signed JSON")
    name: Name = Field(description="name of the target in `notices list` and in the log")
    url: TargetUrl = Field(description="where to post; redirects are not followed")
    secret_env: str = Field(
        min_length=1, description="environment variable that holds the secret: base64 of 24 to 64 bytes"
    )
    token_env: str | None = Field(default=None, description="environment variable that holds a bearer token")
    ca_file: Path | None = Field(default=None, description="certificates to trust instead of the system's")


Target = Annotated[OrthancTarget | WebhookTarget, Field(discriminator="kind")]
