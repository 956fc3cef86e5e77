"""PDUs and command sets: what acceptor and requestor of an association share (PS3.8, PS3.7 6.3).

The node's ``dimse`` accepts associations, its ``peers`` request them. Nothing here knows a store or settings. PDUs that
negotiate are encoded and decoded by pynetdicom; the rest is small and our own (docs/decisions/0060).
"""
