"""Statuses of C-FIND, C-GET and C-MOVE responses, and when they are sent (PS3.4 C.4.1.1.4, C.4.2.1.5, C.4.3.1.4).

======  =======  =============  ==========================================  ==========================================
status  kind     of             when                                        what the peer may do
======  =======  =============  ==========================================  ==========================================
0xFF00  pending  all            a match (C-FIND); a sub-operation has       wait for more
                                ended, or time has passed (C-GET, C-MOVE)
0xFF01  pending  C-FIND         a match, found without regard to keys that  look which keys the match has, and what
                                are not matched here                        it asked for
0x0000  success  all            the last match was sent; every instance     nothing
                                was taken without a warning
0xB000  warning  C-GET, C-MOVE  some instances were not taken, or with a    look at the Failed SOP Instance UID List
                                warning
0xFE00  cancel   all            the peer has cancelled                      nothing
0xA700  failure  C-FIND         more matches than                           ask for less, or later
                                `query_retrieve.max_matches`; or the index
                                is busy
0xA701  failure  C-GET, C-MOVE  more instances than                         ask for less, or later
                                `query_retrieve.max_instances`; or the
                                index is busy
0xA702  failure  C-GET, C-MOVE  no instance was taken                       look at the Failed SOP Instance UID List,
                                                                            or in the log of the node
0xA801  failure  C-MOVE         the Move Destination is the AE title of no  have it added to `peers`
                                peer that may retrieve
0xA900  failure  all            the level is missing, or is none of the     repair the attribute that the Error
                                SOP class; a unique key is missing or has   Comment and Offending Element name
                                several values; a value has too many
                                wildcards, or is too long
0x0122  failure  all            the SOP class of the request is not that    negotiate it
                                of its presentation context, or is for
                                another operation
0xC000  failure  all            the identifier cannot be decoded, or there  repair it; look in the log of the node
                                is none; or a defect of ours
======  =======  =============  ==========================================  ==========================================
"""

from __future__ import annotations

from enum import IntEnum


class QueryStatus(IntEnum):
    """Status values of the responses."""

    SUCCESS = 0x0000
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    OUT_OF_RESOURCES = 0xA700
    CANNOT_COUNT = 0xA701
    CANNOT_SEND = 0xA702
    DESTINATION_UNKNOWN = 0xA801
    IDENTIFIER_DOES_NOT_MATCH = 0xA900
    SOME_FAILED = 0xB000
    CANNOT_PROCESS = 0xC000
    CANCELLED = 0xFE00
    PENDING = 0xFF00
    PENDING_WITHOUT_SOME_KEYS = 0xFF01
