"""Which training a preset asks for."""

from __future__ import annotations

from synthesizer.config import RunConfig
from synthesizer.training.parallel import ParallelTask
from synthesizer.training.tacotron import TacotronTask
from synthesizer.training.task import Embed, SynthesizerTask, Vocode
from synthesizer.training.transformer import TransformerTask

TASKS: dict[str, type[SynthesizerTask]] = {
    "parallel": ParallelTask,
    "tacotron": TacotronTask,
    "transformer": TransformerTask,
}


def build_task(
    data_dir: str, config: RunConfig, vocode: Vocode | None = None, embed: Embed | None = None
) -> SynthesizerTask:
    """The task for `config.model.architecture`.

    `vocode` makes the audio samples in the logs; `embed` finds the speaker embedding of a mel, for the parallel
    synthesizer's `loss.speaker`. Raises CloningError when the set does not suit the model.
    """
    return TASKS[config.model.architecture](data_dir, config, vocode, embed)
