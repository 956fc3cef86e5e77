"""Read the labels of a dataset.json, and turn the network's logits into labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from inference.nnunet.document import Node, read_json

MAX_LABEL = 254  # labels are kept as uint8


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a dataset, and how the heads (output channels) of a network decide among them.

    ``region_order`` is None if one softmax chooses among all labels. Otherwise the heads are independent regions, and
    it holds the label that each head writes, in order; a later head overwrites an earlier one.
    """

    values: Mapping[str, tuple[int, ...]]  # label values by name; a region has several
    n_heads: int
    region_order: tuple[int, ...] | None

    def choose(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the labels of logits.

        Parameters
        ----------
        logits
            (head, z, y, x) floats. If ``is_binary``, a single head is accepted too: the difference of the second and
            the first logit, whose sign decides.

        Returns
        -------
        torch.Tensor
            (z, y, x) uint8 on the same device.
        """
        if self.region_order is not None:
            labels = torch.zeros(logits.shape[1:], dtype=torch.uint8, device=logits.device)
            for head, label in zip(logits, self.region_order, strict=True):
                labels[head > 0] = label  # sigmoid(x) > 0.5 where x > 0
            return labels
        if logits.shape[0] == 1:
            return (logits[0] > 0).to(torch.uint8)
        # torch.argmax over the first axis takes ten times as long as comparing head by head
        labels = torch.zeros(logits.shape[1:], dtype=torch.uint8, device=logits.device)
        highest = logits[0].clone()
        for label, head in enumerate(logits[1:], start=1):
            labels.masked_fill_(head > highest, label)
            torch.maximum(highest, head, out=highest)
        return labels

    @property
    def is_binary(self) -> bool:
        """Whether there are only background and one label, so that the difference of two logits decides."""
        return self.region_order is None and self.n_heads == 2


def read_labels(path: Path) -> Labels:
    """Read the labels of a dataset.json; raise ModelError if they are missing or wrong."""
    document = read_json(path, needed_for="the meaning of the labels")
    node = document["labels"]
    node["background"].integer(0, 0)
    values = {name: _label_values(entry) for name, entry in node.nodes() if name != "ignore"}
    if any(len(value) > 1 for value in values.values()):
        regions = [name for name, value in values.items() if value != (0,)]
        order = document["regions_class_order"].items(len(regions))
        return Labels(values, len(regions), tuple(item.integer(0, MAX_LABEL) for item in order))
    found = sorted({value for entry in values.values() for value in entry})
    if found != list(range(len(found))):
        raise node.wrong("labels 0, 1, 2 and so on without a gap")
    return Labels(values, len(found), None)


def channel_names(path: Path) -> tuple[str, ...]:
    """Return the names of the input channels in a dataset.json, in the order of their numbers."""
    document = read_json(path, needed_for="the names of the channels")
    node = document.get("channel_names") or document["modality"]  # the name before nnU-Net 2
    entries = {key: value.text() for key, value in node.nodes()}
    if set(entries) != {str(index) for index in range(len(entries))}:
        raise node.wrong("channels numbered from '0'")
    return tuple(entries[str(index)] for index in range(len(entries)))


def _label_values(node: Node) -> tuple[int, ...]:
    if isinstance(node.value, list):
        return tuple(item.integer(0, MAX_LABEL) for item in node.items())
    return (node.integer(0, MAX_LABEL),)
