"""The WaveRNN's training step of `peer.py`: the published size, a fifth of the published batch; ours in bf16 too."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable

BATCH, FRAMES, HOP = 20, 5, 200  # published: 100 crops, which take the peer a minute
TRAINING_PARTS = {"wavernn-step": 5, "wavernn-step-bf16": 5}  # part -> the most rounds
Job = Callable[[float], int]


def our_training_jobs() -> dict[str, Job]:
    """A training step of this toolkit, in float32 and bfloat16."""
    step = functools.cache(_our_step)
    return {"wavernn-step": lambda _: step()(False), "wavernn-step-bf16": lambda _: step()(True)}


def their_training_jobs() -> dict[str, Job]:
    """The peer has float32 only."""
    step = functools.cache(_their_step)
    return dict.fromkeys(TRAINING_PARTS, lambda _: step()())


def _our_step() -> Callable[[bool], int]:
    import torch

    from vocoder.config import WaveRNNConfig
    from vocoder.wavernn.network import WaveRNN

    model = WaveRNN(WaveRNNConfig(), 80)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    x, mel, y = _batch()

    def step(half: bool) -> int:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = model(x, mel)
        loss = torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return y.numel()

    return step


def _their_step() -> Callable[[], int]:
    import torch

    sizes = importlib.import_module("vocoder.hparams")
    model = importlib.import_module("vocoder.models.fatchord_version").WaveRNN(
        rnn_dims=sizes.voc_rnn_dims,
        fc_dims=sizes.voc_fc_dims,
        bits=sizes.bits,
        pad=sizes.voc_pad,
        upsample_factors=sizes.voc_upsample_factors,
        feat_dims=sizes.num_mels,
        compute_dims=sizes.voc_compute_dims,
        res_out_dims=sizes.voc_res_out_dims,
        res_blocks=sizes.voc_res_blocks,
        hop_length=sizes.hop_length,
        sample_rate=sizes.sample_rate,
        mode=sizes.voc_mode,
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    x, mel, y = _batch()

    def step() -> int:
        logits = model(x, mel).transpose(1, 2).unsqueeze(-1)
        loss = torch.nn.functional.cross_entropy(logits, y.unsqueeze(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return y.numel()

    return step


def _batch():
    """Samples before (B, T), mel (B, 80, F + 4), labels (B, T)."""
    import torch

    torch.manual_seed(0)
    samples = FRAMES * HOP
    return (
        2 * torch.rand(BATCH, samples) - 1,
        torch.rand(BATCH, 80, FRAMES + 4) - 0.5,
        torch.randint(512, (BATCH, samples)),
    )
