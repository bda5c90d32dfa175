"""Which training a preset asks for."""

from __future__ import annotations

from synthesizer.config import RunConfig
from synthesizer.training.conversion import ConversionTask
from synthesizer.training.non_attentive import NonAttentiveTacotronTask, NonAttentiveTransformerTask
from synthesizer.training.parallel import ParallelTask
from synthesizer.training.tacotron import TacotronTask
from synthesizer.training.task import Embed, SynthesizerTask, Vocode
from synthesizer.training.transformer import TransformerTask
from utils.data.manifest import Manifest

TASKS: dict[str, type[SynthesizerTask]] = {
    "non_attentive_tacotron": NonAttentiveTacotronTask,
    "non_attentive_transformer": NonAttentiveTransformerTask,
    "parallel": ParallelTask,
    "tacotron": TacotronTask,
    "transformer": TransformerTask,
}


def build_task(
    manifest: Manifest, config: RunConfig, vocode: Vocode | None = None, embed: Embed | None = None
) -> SynthesizerTask:
    """The task for `config.model.architecture`, or for its conversion, on a set that synthesizer_preprocess.py wrote.

    `vocode` makes the audio samples in the logs; `embed` finds the speaker embedding of a mel, for the parallel
    synthesizer's `loss.speaker`. Raises CloningError when the set does not suit the model.
    """
    task = ConversionTask if config.model.conversion.channels else TASKS[config.model.architecture]
    return task(manifest, config, vocode, embed)
