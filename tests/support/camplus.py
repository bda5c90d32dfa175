"""Weights of CAM++ in small, made up."""

from __future__ import annotations

import numpy as np
import torch

from encoder.camplus import CamPlus

CHANNELS, GROWTH, LAYERS = 4, 3, 2


def made_camplus() -> CamPlus:
    """With few channels and layers."""
    return CamPlus(made_weights())


def white_noise() -> np.ndarray:
    """2.5 s of it: (N,) at 16 kHz."""
    return np.random.default_rng(0).normal(0, 0.1, 40_000).astype(np.float32)


def made_weights() -> dict[str, torch.Tensor]:
    """The names of the network's weights with few channels and layers."""
    draw = torch.Generator().manual_seed(0)
    weights: dict[str, torch.Tensor] = {}

    def kernel(name: str, *shape: int) -> None:
        weights[f"{name}.weight"] = torch.randn(shape, generator=draw) / np.prod(shape[1:]) ** 0.5

    def norm(name: str, size: int, affine: bool = True) -> None:
        for part in ("running_mean", "bias")[: 1 + affine]:
            weights[f"{name}.{part}"] = 0.3 * torch.randn(size, generator=draw)
        for part in ("running_var", "weight")[: 1 + affine]:
            weights[f"{name}.{part}"] = 0.5 + torch.rand(size, generator=draw)

    kernel("head.conv1", CHANNELS, 1, 3, 3)
    norm("head.bn1", CHANNELS)
    for block in ("layer1.0", "layer1.1", "layer2.0", "layer2.1", "conv2"):
        for i in ("1", "2") if "." in block else ("",):
            kernel(f"head.{block}.conv{i}" if i else "head.conv2", CHANNELS, CHANNELS, 3, 3)
            norm(f"head.{block}.bn{i}" if i else "head.bn2", CHANNELS)
        if block.endswith("0"):
            kernel(f"head.{block}.shortcut.0", CHANNELS, CHANNELS, 1, 1)
            norm(f"head.{block}.shortcut.1", CHANNELS)
    width = 8
    kernel("xvector.tdnn.linear", width, 10 * CHANNELS, 5)
    norm("xvector.tdnn.nonlinear.batchnorm", width)
    for block in (1, 2, 3):
        for layer in range(1, LAYERS + 1):
            name = f"xvector.block{block}.tdnnd{layer}"
            norm(f"{name}.nonlinear1.batchnorm", width)
            kernel(f"{name}.linear1", CHANNELS, width, 1)
            norm(f"{name}.nonlinear2.batchnorm", CHANNELS)
            kernel(f"{name}.cam_layer.linear_local", GROWTH, CHANNELS, 3)
            for linear, (rows, columns) in {"linear1": (2, CHANNELS), "linear2": (GROWTH, 2)}.items():
                kernel(f"{name}.cam_layer.{linear}", rows, columns, 1)
                weights[f"{name}.cam_layer.{linear}.bias"] = torch.zeros(rows)
            width += GROWTH
        norm(f"xvector.transit{block}.nonlinear.batchnorm", width)
        kernel(f"xvector.transit{block}.linear", width // 2, width, 1)
        width //= 2
    norm("xvector.out_nonlinear.batchnorm", width)
    kernel("xvector.dense.linear", CamPlus.embedding_size, 2 * width, 1)
    norm("xvector.dense.nonlinear.batchnorm", CamPlus.embedding_size, affine=False)
    return weights
