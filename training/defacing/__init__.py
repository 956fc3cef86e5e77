"""Simulated anonymisation: what the known tools do to a head, each with the exact mask of what it changed.

Written from the published descriptions of the tools; nothing of theirs is used except pydeface's mask, which comes with
its package. ``cuts`` remove, ``altering`` replaces a face by a blurred, another or an average one, ``fills`` says what
is written where something was removed.
"""

from training.defacing.families import ALTERED, FAMILIES, NEED_DONORS, REMOVED, deface
from training.defacing.fills import MANY_NOISY
from training.defacing.scene import Change, Scene

__all__ = ["ALTERED", "FAMILIES", "MANY_NOISY", "NEED_DONORS", "REMOVED", "Change", "Scene", "deface"]
