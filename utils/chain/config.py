"""What a chain is made of: a preset and a share of the time for each stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

KINDS = {
    "encoder": "encoder",
    "synthesizer": "synthesizer",
    "vocoder": "vocoder",
    "tacotron": "synthesizer",
    "transformer": "synthesizer",
    "wavernn": "vocoder",
    "hifigan": "vocoder",
}  # name of a stage -> whose scripts train it
DEFAULT_STAGES = ("encoder", "synthesizer", "vocoder")
ENOUGH_SPEAKERS = 50  # for an encoder to be worth training; fewer, and the one that is there serves better


@dataclass(frozen=True)
class StageConfig:
    """How one stage is trained.

    In `settings`, {vocoder} or another stage in braces stands for the weights that this chain's has become; settings
    with a stage that the chain does not train are left out.
    """

    RENAMED: ClassVar[dict[str, str]] = {"taught": "teacher_flags", "untaught": "no_teacher_settings"}

    config: str = ""  # a preset of configs/<kind>/
    weight: float = 1.0  # share of the time, beside the others' weights
    weights: Literal["best", "last"] = "best"  # which of its checkpoints becomes part of the chain
    settings: tuple[str, ...] = ()  # --set of its training
    no_teacher_settings: tuple[str, ...] = ()  # more of them for an encoder without a teacher
    teacher_flags: tuple[str, ...] = ()  # flags for encoder_preprocess.py with a teacher
    exclude: tuple[str, ...] = ()  # speakers that its set does without; wildcards allowed

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"weight must be above 0, got {self.weight}")


@dataclass(frozen=True)
class ChainConfig:
    """A preset of `train_all.py`."""

    RENAMED: ClassVar[dict[str, str]] = {"at_once": "parallel_lanes"}

    parallel_lanes: bool = False  # stages that do not need each other are trained at the same time
    encoder: StageConfig = field(default_factory=lambda: StageConfig("small"))
    synthesizer: StageConfig = field(default_factory=lambda: StageConfig("parallel"))
    vocoder: StageConfig = field(default_factory=lambda: StageConfig("source_filter"))
    tacotron: StageConfig = field(default_factory=lambda: StageConfig("small"))
    transformer: StageConfig = field(default_factory=lambda: StageConfig("transformer_small"))
    wavernn: StageConfig = field(default_factory=lambda: StageConfig("wavernn_small"))
    hifigan: StageConfig = field(default_factory=lambda: StageConfig("hifigan_guided"))
