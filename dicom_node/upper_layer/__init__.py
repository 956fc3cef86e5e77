"""PDUs and command sets: what acceptor and requestor of an association share (PS3.8, PS3.7 6.3).

The node's ``dimse`` accepts associations, its ``peers`` request them. Nothing here knows a store or settings; why it is
not pynetdicom's is in docs/decisions/0060.
"""
