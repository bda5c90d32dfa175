"""Train a synthesizer on a set that synthesizer_preprocess.py wrote."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Any

import utils  # noqa: F401  # isort: skip (before torch: how its threads wait)
import numpy as np
import torch
from torch import Tensor, nn

from encoder.camplus import CamPlus
from encoder.inference import SpeakerEncoder
from synthesizer.config import LossConfig, RunConfig
from synthesizer.train import build_task
from synthesizer.training.task import SpeakerEmbeddings
from utils.audio.mel import MelConfig, mel_spectrogram
from utils.config import SettingsParser, from_dict, load_config
from utils.data.manifest import read_manifest
from utils.errors import CloningError
from utils.masks import length_mask
from utils.scripts import exit_code
from utils.training import flags as training_flags
from utils.weights.find import DEFAULT_MODELS, find_chosen
from vocoder.inference import Vocoder, WaveformVocoder
from vocoder.models.griffin_lim import GriffinLimConfig, mel_to_waveform

EPILOG = """
The same command goes on where an interrupted run stopped. Fine-tuning on one person: preprocess a folder of wav and txt
files, then --from the weights to start with.
"""


def build_parser() -> SettingsParser:
    """The arguments of this script."""
    parser = SettingsParser(description=__doc__, epilog=EPILOG)
    training_flags.add_arguments(parser, "synthesizer", default="parallel")
    return parser


def griffin_lim(mel: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """mel (M, F) as sound, for the samples in the logs: no weights needed."""
    settings = GriffinLimConfig(iterations=20)
    return mel_to_waveform(torch.from_numpy(mel), from_dict(MelConfig, config), settings, seed=0).numpy()


class MelSpeakerEncoder(nn.Module):
    """The speaker embeddings of a mel: a vocoder makes a waveform of it, which a speaker encoder embeds, and CAM++ too
    where that is a loss. All are frozen."""

    def __init__(self, loss: LossConfig, expected: str | None) -> None:
        """expected: fingerprint of the encoder of the set. Raises CloningError where the encoder is another, and where
        CAM++ is not installed."""
        super().__init__()
        encoder = SpeakerEncoder.load(find_chosen(DEFAULT_MODELS, "encoder", loss.speaker_encoder or None))
        vocoder = Vocoder.load(find_chosen(DEFAULT_MODELS, "vocoder", loss.speaker_vocoder or None))
        if encoder.fingerprint != expected:
            raise CloningError(
                f"speaker similarity is by encoder {encoder.fingerprint}, the set has embeddings of {expected}: give "
                "that encoder as loss.speaker_encoder, or preprocess with this one"
            )
        if not isinstance(vocoder, WaveformVocoder):
            raise CloningError(
                f"sharpening needs a vocoder that is differentiable, not {vocoder.name}: give a source_filter, vocos "
                "or hifigan as loss.speaker_vocoder"
            )
        self.encoder, self.vocoder, self.mel = encoder.network, vocoder.model, encoder.config.mel
        self.camplus = CamPlus.load() if loss.camplus else None
        self.eval().requires_grad_(False)

    def forward(self, mel: Tensor, lengths: Tensor) -> SpeakerEmbeddings:
        """mel (B, M, F), lengths (B,) in frames -> embeddings, differentiable"""
        with torch.autocast(mel.device.type, enabled=False):
            wav = self.vocoder(mel).wav
            samples = (lengths - 1).clamp(min=1) * (wav.shape[1] // (mel.shape[2] - 1))
            wav = wav * length_mask(samples, wav.shape[1])
            own = self.encoder(mel_spectrogram(wav, self.mel), 1 + samples // self.mel.hop_length)
            if self.camplus is None:
                return SpeakerEmbeddings(own)
            return SpeakerEmbeddings(own, self.camplus.to(wav.device).embed_waveforms(wav, samples))


def run(args: argparse.Namespace) -> int:
    """Train, from the last saved step if there is one."""
    config = load_config(RunConfig, "synthesizer", args.config, training_flags.settings_of(args))
    manifest = read_manifest(args.data, "synthesizer")
    embed = MelSpeakerEncoder(config.loss, manifest.header.get("encoder")) if config.scores_speech else None
    task = build_task(manifest, config, griffin_lim, embed)
    if best := training_flags.train(task, config, args):
        training_flags.say(f"best weights: {best}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run this script; returns its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = build_parser().parse_args(argv)
    return exit_code(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
