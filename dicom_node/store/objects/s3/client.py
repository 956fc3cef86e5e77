"""A client of botocore for one bucket, and what its errors mean to the node.

Only this module knows botocore, and imports it when a client is made: a node with local objects does without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from dicom_node.store.errors import ObjectsDriverError, ObjectsUnavailableError
from dicom_node.store.objects.s3.place import S3Place

CONNECT_TIMEOUT_S: Final = 3.0
ATTEMPTS: Final = 2  # a sender waits meanwhile
MAX_CONNECTIONS: Final = 32
_GONE: Final = frozenset({"NoSuchKey", "404", "NotFound"})
_WORDS: Final = {
    "NoSuchBucket": "there is no such bucket; create it, or correct node.objects_url",
    "AccessDenied": "access is denied; the user of these credentials needs to list the bucket and to get, put and "
    "delete objects",
    "403": "access is denied; check the credentials and what their user may do",
    "InvalidAccessKeyId": "the access key is unknown; check AWS_ACCESS_KEY_ID or the file of credentials",
    "SignatureDoesNotMatch": "the secret key is wrong; check AWS_SECRET_ACCESS_KEY or the file of credentials",
    "ExpiredToken": "the credentials have expired",
    "RequestTimeTooSkewed": "the clocks of this machine and of the server differ too much; set them",
    "PermanentRedirect": "the bucket is in another region; set objects.region",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set objects.region",
}


class NoSuchObjectError(Exception):
    """The server has no object with this key."""


class RefusedByServerError(ObjectsUnavailableError):
    """The server answered, and not as it was asked to."""


class ChecksumRefusedError(Exception):
    """The server computed another checksum than the one that was sent with the bytes."""


def new_client(place: S3Place) -> Any:  # noqa: ANN401 - botocore makes the class at run time
    """Return a client whose answers are awaited for a bounded time.

    Raises
    ------
    ObjectsDriverError
        botocore is not installed.
    ObjectsUnavailableError
        A setting or an AWS file cannot be used.
    """
    try:
        import botocore.session
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise ObjectsDriverError(str(error.name)) from error
    is_path = place.endpoint_url is not None if place.path_style is None else place.path_style
    config = Config(
        signature_version="s3v4",
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=place.timeout_s,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=MAX_CONNECTIONS,
        tcp_keepalive=True,
        # Checksums are sent as headers of our own: botocore's trailers are refused by servers that do not know them.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if is_path else "auto"},
    )
    session = botocore.session.Session()
    region = place.region or session.get_config_variable("region") or "us-east-1"
    verify = None if place.ca_file is None else str(place.ca_file)
    try:
        return session.create_client(
            "s3", region_name=region, endpoint_url=place.endpoint_url, verify=verify, config=config
        )
    except (BotoCoreError, ValueError, OSError) as error:
        raise ObjectsUnavailableError(place.url, f"a client cannot be made ({type(error).__name__})") from error


@contextmanager
def translated(place: S3Place) -> Iterator[None]:
    """Turn errors of botocore in the block into ours; their texts are not quoted, except codes of S3.

    Raises
    ------
    NoSuchObjectError, ChecksumRefusedError
        The server says so.
    ObjectsUnavailableError
        Anything else.
    """
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectTimeoutError,
        EndpointConnectionError,
        HTTPClientError,
        NoCredentialsError,
        PartialCredentialsError,
        ReadTimeoutError,
        SSLError,
    )

    reasons = {
        NoCredentialsError: "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write "
        "~/.aws/credentials for the node's user",
        PartialCredentialsError: "the credentials are incomplete; a key belongs to each secret",
        SSLError: "its certificate is not trusted, or TLS failed; set objects.ca_file to the certificates that sign it",
        ConnectTimeoutError: "it cannot be reached in time",
        EndpointConnectionError: "it cannot be reached; check objects.endpoint_url and that the server runs",
        ReadTimeoutError: f"it did not answer for {place.timeout_s:g} s",
    }
    try:
        yield
    except ClientError as error:
        raise _of_answer(place, error.response) from error
    except (BotoCoreError, HTTPClientError, OSError) as error:
        reason = next((words for kind, words in reasons.items() if isinstance(error, kind)), None)
        raise ObjectsUnavailableError(place.url, reason or f"the connection broke ({type(error).__name__})") from error


def _of_answer(place: S3Place, response: Any) -> Exception:  # noqa: ANN401 - a dict of botocore
    code = str(response.get("Error", {}).get("Code", ""))[:64]
    if code in _GONE:
        return NoSuchObjectError()
    if code in ("BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "InvalidDigest"):
        return ChecksumRefusedError(code)
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    words = _WORDS.get(code, f"it answered {status} {code}".rstrip())
    return RefusedByServerError(place.url, words)
