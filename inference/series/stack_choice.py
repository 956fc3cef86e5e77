"""What a rule may say about the stacks of a series; without imports, because every process reads the rules."""

from __future__ import annotations

from enum import StrEnum

# Raised whenever the same series and policy would give other stacks, or say other things of those that are not run;
# part of the pipeline digest.
STACKS_VERSION = "4"


class StackChoice(StrEnum):
    """One step that narrows the stacks of a series; steps are taken one after the other."""

    ALL = "all"
    FIRST = "first"
    FIRST_OF_REPEATS = "first-of-repeats"
    MAGNITUDE = "magnitude"
    LARGEST = "largest"
    LOWEST_B_VALUE = "lowest-b-value"
    FIRST_ECHO = "first-echo"


StackPolicy = tuple[StackChoice, ...]

# Repetitions (time, heart phase, gradient direction) show the same anatomy in the same field of view, tens or hundreds
# of times; phase images show noise where there is no body. Every contrast, orientation and size is looked at.
DEFAULT_POLICY: StackPolicy = (StackChoice.MAGNITUDE, StackChoice.FIRST_OF_REPEATS)
