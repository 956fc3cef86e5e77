"""Identity of this implementation in associations, stored files and exported objects (PS3.7 D.3.3.2, PS3.10 7.1)."""

from __future__ import annotations

from typing import Final

IMPLEMENTATION_CLASS_UID: Final = "2.25.228701942079412254809375717563428474258"  # a random UUID, made once (PS3.5 B.2)
IMPLEMENTATION_VERSION_NAME: Final = "DICOM_NODE"  # without a version, so that a dataset always has the same file
