"""Identify the pipeline by one digest over everything that decides a result, apart from the input.

Nothing here imports PyTorch: the process that queues jobs needs the digest but no network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from inference.models import ModelIdentity
from inference.series.stack_choice import DEFAULT_POLICY, STACKS_VERSION
from inference.verdict.calibration import calibration_sha256
from inference.version import SEGMENTATION_VERSION
from sr_writer.version import WRITER_VERSION


def pipeline_digest(identities: Iterable[ModelIdentity], rules_digest: str = "") -> str:
    """Return the SHA-256, in hexadecimal, over models, calibration, rules, stacks and code versions.

    Parameters
    ----------
    identities
        Identities of the models in use, from their folders.
    rules_digest
        Digest of the series rules, which name stacks; the default choice of stacks is always part of the result.
    """
    parts = {
        "models": {identity.role: identity.sha256 for identity in identities},
        "calibration": calibration_sha256(),
        "segmentation": SEGMENTATION_VERSION,
        "rules": rules_digest,
        "stacks": [STACKS_VERSION, *DEFAULT_POLICY],
        "writer": WRITER_VERSION,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
