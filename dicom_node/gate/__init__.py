"""Whether a study may leave: what its series mean for it, what a person decided, and why."""
