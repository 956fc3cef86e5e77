"""Which implementation this is: in association requests and acceptances, in stored files and in exported objects."""

from __future__ import annotations

from typing import Final

IMPLEMENTATION_CLASS_UID: Final = "2.25.228701942079412254809375717563428474258"  # a random UUID, made once (PS3.5 B.2)
IMPLEMENTATION_VERSION_NAME: Final = "DICOM_NODE"  # without a version: the same dataset makes the same file for ever
