"""What is compared, and with how many steps.

Five starts: none; each method with masks; each without. Two controls: the tensors of a pretrained network with their
values permuted (same scale, no knowledge), which must not gain; and weights trained with labels of other heads, which
must gain, or the task cannot show anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

SPACING_MM = 3.0
TARGETS = ("white matter", "cortex", "cerebellum and brain stem", "deep grey and ventricles")


class Start(StrEnum):
    """Where the weights come from before fine-tuning."""

    SCRATCH = "scratch"
    VOLUME_FUSION = "volume-fusion"
    ANATOMASK = "anatomask"
    VOLUME_FUSION_PLAIN = "volume-fusion-no-masks"
    ANATOMASK_PLAIN = "anatomask-no-masks"
    PERMUTED = "control-permuted"
    SUPERVISED = "control-supervised"


PRETRAINED = {
    Start.ANATOMASK: ("anatomask", True),
    Start.VOLUME_FUSION: ("volume-fusion", True),
    Start.ANATOMASK_PLAIN: ("anatomask", False),
    Start.VOLUME_FUSION_PLAIN: ("volume-fusion", False),
}
PERMUTED_FROM = Start.VOLUME_FUSION


@dataclass(frozen=True, slots=True)
class Protocol:
    """Sizes of one benchmark.

    Attributes
    ----------
    patch
        Voxels along each axis.
    pretraining_steps
        By method, and of the supervised control.
    rates
        Learning rates to choose from, for each start, on heads that are not in the test.
    """

    patch: int
    pretraining_steps: dict[str, int]
    tuning_steps: int
    rate_steps: int
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    rates: tuple[float, float] = (1e-3, 4e-3)
    batch_size: int = 2
    decoder_width: int = 32
    n_train_heads: int = 3
    n_test_heads: int = 6
    n_choice_heads: int = 2


PROTOCOLS = {
    # Under an hour on two idle cores.
    "full": Protocol(
        40, {"anatomask": 1600, "volume-fusion": 2400, "supervised": 2400}, tuning_steps=200, rate_steps=120
    ),
    # A quarter of an hour on two idle cores.
    "medium": Protocol(
        32, {"anatomask": 1200, "volume-fusion": 1600, "supervised": 1200}, tuning_steps=100, rate_steps=60
    ),
    # For a machine that is busy with other work: ten minutes of one core.
    "short": Protocol(32, {"anatomask": 250, "volume-fusion": 300, "supervised": 300}, tuning_steps=80, rate_steps=40),
    # For the test of this script.
    "tiny": Protocol(
        16,
        {"anatomask": 2, "volume-fusion": 2, "supervised": 2},
        tuning_steps=4,
        rate_steps=2,
        seeds=(0,),
        decoder_width=8,
    ),
}
