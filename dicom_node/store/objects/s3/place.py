"""Where objects are kept when they are not on local disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dicom_node.store.errors import ObjectsUrlError

CACHE_BYTES = 20 * 2**30
TIMEOUT_S = 10.0
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9!_.*'()/-]{0,256}")


@dataclass(frozen=True, slots=True)
class S3Place:
    """A bucket, and how to reach it; who asks is said by AWS's own variables and files.

    Attributes
    ----------
    prefix
        In front of every key; empty, or ending with ``/``.
    endpoint_url
        Of the server; None means Amazon's.
    path_style
        Whether the bucket is in the path of an address and not in its host name; None: only with ``endpoint_url``.
    ca_file
        Certificates that the server's is signed by; None means those of the system.
    cache_bytes
        Of local copies at most.
    timeout_s
        For each answer of the server; a request is tried twice.
    """

    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str | None = None
    path_style: bool | None = None
    ca_file: Path | None = None
    cache_bytes: int = CACHE_BYTES
    timeout_s: float = TIMEOUT_S

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        path_style: bool | None = None,
        ca_file: Path | None = None,
        cache_bytes: int = CACHE_BYTES,
        timeout_s: float = TIMEOUT_S,
    ) -> Self:
        """Read ``s3://bucket/prefix``; raise `ObjectsUrlError` if it is anything else."""
        bucket, prefix = parse_url(url)
        if endpoint_url is not None and "@" in endpoint_url:
            raise ObjectsUrlError("objects.endpoint_url has a user or password in it; credentials go elsewhere")
        return cls(bucket, prefix, endpoint_url, region, path_style, ca_file, cache_bytes, timeout_s)

    @property
    def url(self) -> str:
        """The bucket and prefix, as the settings name them."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


def parse_url(url: str) -> tuple[str, str]:
    """Return bucket and prefix of ``s3://bucket/prefix``, the prefix empty or with a slash at its end.

    Raises
    ------
    ObjectsUrlError
        It is another URL, has a user or password in it, or an invalid bucket or prefix.
    """
    scheme, _, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme.lower() != "s3" or not rest:
        raise ObjectsUrlError("it does not begin with s3://")
    if "@" in bucket or "?" in rest:  # not quoted: it may hold a password
        raise ObjectsUrlError("it has more in it than bucket and prefix; credentials and options go elsewhere")
    if not _BUCKET.fullmatch(bucket):
        raise ObjectsUrlError(f"{bucket!r} is no name of a bucket (3 to 63 lower case letters, digits, dots, hyphens)")
    prefix = prefix.strip("/")
    if not _PREFIX.fullmatch(prefix) or any(part in ("", ".", "..") for part in prefix.split("/") if prefix):
        raise ObjectsUrlError(f"the prefix {prefix!r} has characters or parts that not every server takes")
    return bucket, f"{prefix}/" if prefix else ""
