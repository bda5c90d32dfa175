"""A folder of tiny untrained models, so that the chain runs in moments. Their speech is noise of the right length."""

from __future__ import annotations

from pathlib import Path

import torch

from encoder.config import EncoderConfig, TransformerConfig
from encoder.model import build_network
from synthesizer.config import (
    WITH_POSTNET,
    EmotionConfig,
    ParallelConfig,
    SynthesizerConfig,
    TacotronConfig,
)
from synthesizer.config import TransformerConfig as SpeechTransformerConfig
from synthesizer.models.build import build_network as build_synthesizer
from synthesizer.text.processor import TextProcessor
from utils.audio.mel import ENCODER_MEL, SYNTHESIZER_MEL, MelConfig
from utils.config import to_dict
from utils.weights.checkpoint import Header, save_weights
from vocoder.config import VocoderConfig, VocosConfig
from vocoder.model import build_network as build_vocoder

TINY_TACOTRON = TacotronConfig(embedding=16, encoder=16, decoder=16, lstm=16, postnet=16, prenet=16, max_reduction=5)
TINY_PARALLEL = ParallelConfig(channels=16, encoder_blocks=1, decoder_blocks=1, flow_blocks=1, flow_channels=16)
TINY_TRANSFORMER = SpeechTransformerConfig(
    width=16, heads=2, encoder_layers=1, decoder_layers=1, feedforward=16, prenet=16, postnet=16, guided_heads=1
)


def save_tiny_models(
    folder: Path,
    model: str = "parallel",
    vocoder_mel: MelConfig = SYNTHESIZER_MEL,
    embedding_size: int = 256,
    emotions: tuple[str, ...] = (),
    parallel: ParallelConfig = TINY_PARALLEL,
) -> Path:
    """encoder, synthesizer (of an architecture) and vocoder that fit together, unless told otherwise."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    sizes = TransformerConfig(width=32, blocks=1, heads=2, feedforward=64, pooled=32)
    config = EncoderConfig(architecture="transformer", embedding_size=embedding_size, transformer=sizes)
    fingerprint = save_weights(
        folder / "encoder.safetensors",
        Header("encoder", to_dict(config), mel=to_dict(ENCODER_MEL)),
        build_network(config).state_dict(),
    )
    text = TextProcessor("characters" if model == "tacotron" else "phonemes")
    shape = SynthesizerConfig(
        architecture=model, tacotron=TINY_TACOTRON, parallel=parallel, transformer=TINY_TRANSFORMER,
        emotion=EmotionConfig(labels=emotions, channels=16),
    )  # fmt: skip
    network = build_synthesizer(shape, len(text), SYNTHESIZER_MEL.n_mels)
    if emotions and model not in WITH_POSTNET:
        torch.nn.init.normal_(network.emotion_projection.weight)  # zero before training: emotions would do nothing
    save_weights(
        folder / "synthesizer.safetensors",
        Header(
            "synthesizer",
            to_dict(shape),
            mel=to_dict(SYNTHESIZER_MEL),
            extra={
                "text": text.describe(),
                "marks": "all" if model == "tacotron" else "pauses",
                "encoder": fingerprint,
            },
        ),
        network.state_dict(),
    )
    vocos = VocoderConfig(mel=vocoder_mel, vocos=VocosConfig(dim=16, hidden=32, blocks=1))
    save_weights(
        folder / "vocoder.safetensors",
        Header("vocoder", to_dict(vocos), mel=to_dict(vocoder_mel)),
        build_vocoder(vocos).state_dict(),
    )
    return folder
