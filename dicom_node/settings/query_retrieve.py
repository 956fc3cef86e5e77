"""Settings of query and retrieve by DIMSE."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dicom_node.settings.section import Section


class QueryRetrieveSettings(Section):
    """Answering C-FIND, C-GET and C-MOVE."""

    enabled: bool = Field(default=True, description="answer C-FIND, C-GET and C-MOVE of peers that may ask")
    known_peers_only: bool = Field(
        default=True,
        description="only the AE titles of `peers` may query and retrieve; otherwise every AE title may, "
        "except peers that may not",
    )
    max_matches: int = Field(
        default=100_000, ge=1, le=1_000_000, description="a query with more matches ends with 0xA700 after so many"
    )
    max_instances: int = Field(
        default=65_535, ge=1, le=65_535, description="a retrieval of more instances is refused with 0xA701"
    )
    move_wait_s: Annotated[float, Field(gt=0)] = Field(
        default=60.0,
        description="a C-MOVE ends when its destination has taken nothing for so long; what is left counts as failed, "
        "and stays in the outbox",
    )
    keep_moves_days: Annotated[float, Field(gt=0)] = Field(
        default=30.0, description="days until deliveries of a C-MOVE that have ended are deleted from the outbox"
    )
