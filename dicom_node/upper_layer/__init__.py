"""PDUs and command sets, shared by acceptor and requestor of an association (PS3.8, PS3.7 6.3).

The package ``dimse`` accepts associations, ``peers`` requests them. Nothing here depends on store or settings. Why the
node does not use pynetdicom for this is in docs/decisions/0060.
"""
