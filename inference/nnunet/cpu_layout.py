"""Replace the layers of a network by faster ones for the CPU, with channels last in memory.

Narrow 3D U-Nets spend most of their time in layers for which PyTorch uses slow general code on a CPU: convolutions
with few channels, 1 x 1 x 1 convolutions and transposed convolutions. With channels last they become plain matrix
products or use oneDNN. The arithmetic is the same; only the order of summation differs (docs/decisions/0031).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def optimise_for_cpu(network: nn.Module) -> nn.Module:
    """Replace the layers of ``network`` in place by faster ones with the same weights, and return it."""
    _replace_layers(network, {})
    return network


def _replace_layers(module: nn.Module, known: dict[int, nn.Module]) -> None:
    """Replace layers recursively; a layer registered under several names is replaced by one shared layer."""
    for name, child in list(module.named_children()):
        if id(child) not in known:
            known[id(child)] = _replacement(child)
            if known[id(child)] is child:
                _replace_layers(child, known)
        setattr(module, name, known[id(child)])


def _replacement(layer: nn.Module) -> nn.Module:
    """Return the faster equivalent of a layer, or the layer itself if there is none."""
    if isinstance(layer, nn.Conv3d) and layer.groups == 1 and layer.padding_mode == "zeros":
        if torch.backends.mkldnn.is_available() and not isinstance(layer.padding, str):  # type: ignore[no-untyped-call]
            return ChannelsLastConvolution(layer)
    elif isinstance(layer, nn.ConvTranspose3d) and _does_not_overlap(layer):
        return ChannelsLastUpsampling(layer)
    elif isinstance(layer, nn.InstanceNorm3d) and not layer.track_running_stats:
        return ChannelsLastInstanceNorm(layer)
    return layer


def _does_not_overlap(layer: nn.ConvTranspose3d) -> bool:
    """Whether every output voxel depends on exactly one input voxel."""
    is_plain = layer.groups == 1 and set(layer.padding) == set(layer.output_padding) == {0}
    return is_plain and layer.kernel_size == layer.stride and set(layer.dilation) == {1}


class ChannelsLastConvolution(nn.Module):
    """``nn.Conv3d`` computed by oneDNN, or as a matrix product if the kernel is a single voxel."""

    def __init__(self, layer: nn.Conv3d) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach().to(memory_format=torch.channels_last_3d), requires_grad=False)
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach(), requires_grad=False)
        padding = [int(side) for side in layer.padding]
        self._options = (padding, list(layer.stride), list(layer.dilation))
        self._is_single_voxel = set(layer.kernel_size) == set(layer.stride) == {1} and set(layer.padding) == {0}

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Convolve float32 values (tile, channel, z, y, x)."""
        if self._is_single_voxel:
            rows = values.permute(0, 2, 3, 4, 1)
            return functional.linear(rows, self.weight.flatten(1), self.bias).permute(0, 4, 1, 2, 3)
        values = values.contiguous(memory_format=torch.channels_last_3d)
        padding, stride, dilation = self._options
        return torch.mkldnn_convolution(values, self.weight, self.bias, padding, stride, dilation, 1)


class ChannelsLastUpsampling(nn.Module):
    """``nn.ConvTranspose3d`` with kernel size equal to stride: one matrix product whose rows become blocks."""

    def __init__(self, layer: nn.ConvTranspose3d) -> None:
        super().__init__()
        n_in = layer.weight.shape[0]
        blocks = layer.weight.detach().permute(2, 3, 4, 1, 0).reshape(-1, n_in).contiguous()
        self.weight = nn.Parameter(blocks, requires_grad=False)  # (block voxel and channel out, channel in)
        self._bias = None if layer.bias is None else layer.bias.detach()
        self._block = tuple(layer.kernel_size)
        self._n_out = layer.weight.shape[1]

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Upsample float32 values (tile, channel, z, y, x)."""
        tiles, _, depth, height, width = values.shape
        up_z, up_y, up_x = self._block
        rows = functional.linear(values.permute(0, 2, 3, 4, 1), self.weight)
        blocks = rows.reshape(tiles, depth, height, width, up_z, up_y, up_x, self._n_out)
        spread = blocks.permute(0, 1, 4, 2, 5, 3, 6, 7)
        result = spread.reshape(tiles, depth * up_z, height * up_y, width * up_x, self._n_out)
        if self._bias is not None:
            result += self._bias
        return result.permute(0, 4, 1, 2, 3)


class ChannelsLastInstanceNorm(nn.Module):
    """``nn.InstanceNorm3d`` for values with channels last in memory."""

    def __init__(self, layer: nn.InstanceNorm3d) -> None:
        super().__init__()
        self._eps = layer.eps
        self.weight = None if layer.weight is None else nn.Parameter(layer.weight.detach(), requires_grad=False)
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach(), requires_grad=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Normalise each channel of each tile (tile, channel, z, y, x) by its own mean and variance."""
        last = values.contiguous(memory_format=torch.channels_last_3d).permute(0, 2, 3, 4, 1)
        rows = last.flatten(1, 3)
        mean = rows.mean(1, keepdim=True)
        # Squares of centred values: the faster kernels of batch and group normalisation have errors of 1e-3 here.
        variance = (rows - mean).square_().mean(1, keepdim=True)
        scale = torch.rsqrt(variance + self._eps)
        if self.weight is not None:
            scale = scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        return torch.addcmul(shift, rows, scale).view(last.shape).permute(0, 4, 1, 2, 3)
