"""The layout of published WaveRNN checkpoints: their sizes, read off their tensors."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from utils.errors import CloningError
from vocoder.config import WaveRNNConfig


def published_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a published checkpoint that are weights: all but its step counter."""
    return {name: value for name, value in state.items() if name != "step"}


def published_config(state: Mapping[str, Tensor]) -> tuple[WaveRNNConfig, int]:
    """Sizes and number of mel channels of a published state, read off its tensors.

    Raises CloningError where it lacks some, or they are of another layout.
    """
    try:
        factors = [state[f"upsample.up_layers.{i}.weight"] for i in range(1, 2 * _upsamplers(state), 2)]
        conv_in = state["upsample.resnet.conv_in.weight"]
        outputs = state["fc3.weight"].size(0)
        config = WaveRNNConfig(
            rnn_size=state["rnn1.weight_hh_l0"].size(1),
            fc_size=state["fc3.weight"].size(1),
            bits=9 if outputs == 30 else outputs.bit_length() - 1,
            pad=conv_in.size(2) // 2,
            upsample=tuple(weight.size(3) // 2 for weight in factors),
            compute_size=conv_in.size(0),
            res_out_size=state["upsample.resnet.conv_out.weight"].size(0),
            res_blocks=sum(name.endswith(".conv1.weight") for name in state),
            mode="mol" if outputs == 30 else "raw",
        )
        return config, conv_in.size(1)
    except (KeyError, IndexError, ValueError) as error:
        raise CloningError(f"not a WaveRNN of the published layout: {error}") from error


def _upsamplers(state: Mapping[str, Tensor]) -> int:
    return sum(name.startswith("upsample.up_layers.") for name in state)
