"""Query and retrieve as an SCP: C-FIND, C-GET and C-MOVE (PS3.4 annex C)."""
