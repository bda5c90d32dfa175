"""What a stage tells the training loop of `utils.training.loop`: how long to learn, its modules, batches and losses."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from utils.config import check_ranges, current_names
from utils.precision import Precision

Batch = dict[str, Any]
BatchT = TypeVar("BatchT", bound=Mapping[str, Any])
WARMUP_SHARE = 0.03  # of a budget of time, at least


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast to learn. Learning rate: linear warm-up, then a cosine down to the final one.

    With `minutes` the run ends after that much training (validation included), and all that is scheduled in steps, here
    or in a stage's settings, falls due at the same share of that time as it has of `steps`.
    """

    steps: int = 100_000
    minutes: float = 0.0  # > 0: a budget of time in place of a number of steps
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-5
    warmup_steps: int = 500
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    ema_decay: float = 0.0  # > 0: a moving average of the weights is validated and saved in their place
    frozen: tuple[str, ...] = ()  # parts of the first module that stay as they are, such as "encoder" or "decoder.*.up"
    seed: int = 0
    precision: Precision = "no"  # auto: bf16 where the processor or GPU has it in hardware, else no (fp32)
    workers: int = 1  # processes that prepare batches; 0: in the training process
    log_every: int = 50
    validate_every: int = 1000
    save_every: int = 500
    patience: int = 0  # stop after so many validations without a better score; 0: never

    def __post_init__(self) -> None:
        often = (1, 10**9)
        check_ranges(
            self, steps=often, minutes=(0, 10**6), learning_rate=(0, 1000), final_learning_rate=(0, 1000),
            warmup_steps=(0, 10**9), betas=(0, 0.999_999), weight_decay=(0, 1000), clip_norm=(0, 1e9), ema_decay=(0, 1),
            seed=(0, 2**63 - 1), workers=(0, 1024), log_every=often, validate_every=often, save_every=often,
            patience=(0, 10**9),
        )  # fmt: skip
        if not 0 < self.learning_rate or not 0 <= self.ema_decay < 1 or self.clip_norm <= 0:
            raise ValueError(
                f"learning_rate {self.learning_rate}, ema_decay {self.ema_decay}, clip_norm {self.clip_norm} must be "
                "above 0, in [0, 1), above 0"
            )

    def learning_rate_at(self, position: float) -> float:
        """The rate of step 1 .. steps; with a budget of time, at a position in it (0 .. steps)."""
        warmup: float = self.warmup_steps
        if self.minutes and warmup:
            warmup = max(warmup, WARMUP_SHARE * self.steps)  # a short budget has few steps, of which some must warm up
        if position <= warmup and warmup:
            return self.learning_rate * position / warmup
        progress = (position - warmup) / max(1, self.steps - warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * cosine


@dataclass
class Validation:
    """What a stage says of itself: `score` (lower is better) picks the best checkpoint."""

    score: float
    metrics: dict[str, float] = field(default_factory=dict)
    calibration: dict[str, float] = field(default_factory=dict)  # what inference is to multiply predictions by
    figures: dict[str, Callable[[], Any]] = field(default_factory=dict)  # name -> draws a matplotlib Figure
    audio: dict[str, tuple[np.ndarray, int]] = field(default_factory=dict)  # name -> (samples (T,), Hz)
    warnings: list[str] = field(default_factory=list)  # shown in words, such as attention that does not align
    eligible: bool = True  # False: never the best, as where a later phase of the training is still to come


class Task(ABC, Generic[BatchT]):
    """What one stage tells the loop: its modules, its batches, its losses."""

    kind: str  # of the checkpoint
    begins_as: tuple[str, ...] = ()  # architectures, beside its own, whose weights it may begin with
    modules: dict[str, nn.Module]  # one optimizer each; the first one's weights are the checkpoint
    config: Any = None  # the run's, a frozen dataclass of the stage
    model_config: dict[str, Any]  # of the model, saved in the checkpoint
    mel: dict[str, Any] | None = None
    extra: dict[str, Any] = {}  # replaced by subclasses, never changed
    # What decides the meaning of a score: settings by dotted name (* matches anything), and constants by a name of
    # their own. Where one has changed, a run that goes on compares with no score of before, and its patience begins
    # anew. A weight of a loss is none of them: variants with other weights are compared by their scores.
    scored_by: tuple[str, ...] = ()
    score_constants: dict[str, Any] = {}  # replaced by subclasses, never changed
    # Set before each batch and each step. With a budget of time, a loader process makes a batch a little earlier than
    # it is learned from: what both must agree on belongs into the batch.
    progress: float = 0.0  # share (0 to 1) of the run that is over
    position: float = 0  # what settings in steps are compared with: the step; with a budget of time progress * steps

    @abstractmethod
    def batch(self, step: int) -> BatchT:
        """The whole batch of a step, over all processes: a pure function of (seed, step); CPU tensors (B, ...).

        With a budget of time it may look at `position` too.
        """

    def taken_from(self, architecture: str | None, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What may be taken of another architecture's weights (None: not known), under the names that it has here."""
        return state

    def resident(self, device: torch.device) -> bool:
        """Put the whole data on the device, if it suits. True: `batch` is called in the training process from then on,
        gives tensors there, and should not wait for the device.
        """
        return False

    def begin_step(self, batch: BatchT) -> None:
        """Bring the modules to what a batch was made for, before its losses, which change nothing."""

    @abstractmethod
    def losses(self, modules: Mapping[str, nn.Module], batch: BatchT, phase: str, step: int) -> dict[str, Tensor]:
        """Losses for the module named `phase`; they are summed. Names that begin with "_" are only logged."""

    @abstractmethod
    def validate(self, modules: Mapping[str, nn.Module]) -> Validation:
        """Measure on held-out speakers; modules are in eval mode, under inference_mode."""

    def phases(self, step: int) -> list[str]:
        """The modules to update at this step, in order."""
        return list(self.modules)

    def constrain(self, weights: Mapping[str, Tensor], step: int) -> None:
        """Change weights of the first module in place after its step, such as pruned ones to 0.

        Called for the trained ones, and then for their moving average where there is one.
        """

    def shard(self, batch: Mapping[str, Any], rank: int, world: int) -> Batch:
        """The rows of one process: rank, rank + world, ..."""
        return {
            name: value[rank::world] if isinstance(value, Tensor | list) else value for name, value in batch.items()
        }

    def renamed(self, settings: dict[str, Any]) -> dict[str, Any]:
        """`settings` of an older run under the names that they have now."""
        return settings if self.config is None else current_names(type(self.config), settings)

    def names(self, step: int) -> list[str]:
        """Utterances in the batch of a step, to name them when a loss is not finite."""
        return []
