"""Give a trained network more features without changing its answers, so that training can go on with them.

New features begin with random weights, and nothing that is already there reads them yet: the weights with which it will
are zero, and learn. Other than in Net2Net, no feature is copied, since copies learn to differ only slowly.

References
----------
T. Chen et al., Net2Net: accelerating learning via knowledge transfer, ICLR (2016).
"""

from __future__ import annotations

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import Tensor, nn


@torch.no_grad()
def widen(narrow: PlainConvUNet, wide: PlainConvUNet) -> None:
    """Write the weights of a network into one with random weights and more features, which then answers as it does.

    Raises
    ------
    ValueError
        The networks differ in more than the number of features, or one stage would get fewer of them.
    """
    joining = {id(stage.convs[0].conv) for stage in wide.decoder.stages}  # read two joined inputs: from below, skipped
    pairs = list(zip(narrow.modules(), wide.modules(), strict=True))
    for old, new in pairs:
        if type(old) is not type(new):
            message = f"{type(old).__name__} is {type(new).__name__} in the wider network"
            raise ValueError(message)
        if isinstance(new, nn.BatchNorm3d):
            for kept, field in ((old.weight, new.weight), (old.bias, new.bias)):
                _leading(field, kept.shape[0]).copy_(kept)
            _leading(new.running_mean, old.num_features).copy_(old.running_mean)
            _leading(new.running_var, old.num_features).copy_(old.running_var)
            new.num_batches_tracked.copy_(old.num_batches_tracked)
        elif isinstance(new, nn.Conv3d):
            _write(new.weight, old.weight, n_inputs=2 if id(new) in joining else 1)
            _leading(new.bias, old.out_channels).copy_(old.bias)
        elif isinstance(new, nn.ConvTranspose3d):
            _write(new.weight.transpose(0, 1), old.weight.transpose(0, 1), n_inputs=1)
            _leading(new.bias, old.out_channels).copy_(old.bias)


def _leading(field: Tensor, size: int) -> Tensor:
    """Return the first entries of a field along its first axis."""
    if field.shape[0] < size:
        message = f"{size} features do not fit into {field.shape[0]}"
        raise ValueError(message)
    return field[:size]


def _write(field: Tensor, kept: Tensor, *, n_inputs: int) -> None:
    """Write weights (output, input, ...) into larger ones, where the inputs are ``n_inputs`` joined groups."""
    n_outputs = kept.shape[0]
    _leading(field, n_outputs).zero_()
    for wide, narrow in zip(field.chunk(n_inputs, 1), kept.chunk(n_inputs, 1), strict=True):
        _leading(wide.transpose(0, 1), narrow.shape[1])[:, :n_outputs].copy_(narrow.transpose(0, 1))
