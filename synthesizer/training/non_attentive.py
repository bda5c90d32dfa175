"""Training of the non-attentive networks: that of the parallel synthesizer, on the same windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from synthesizer.batches import ParallelBatch
from synthesizer.config import RunConfig, SynthesizerConfig
from synthesizer.models.non_attentive_transformer import NonAttentiveTransformer
from synthesizer.models.parallel import Parallel
from synthesizer.models.parallel_output import ParallelOutput
from synthesizer.models.tacotron.non_attentive import NonAttentiveTacotron
from synthesizer.training.parallel import ParallelTask
from synthesizer.training.task import Embed, Vocode
from utils.config import from_dict
from utils.data.manifest import Manifest
from utils.errors import CloningError
from utils.masks import length_mask
from utils.training.distributed import masked_mean
from utils.weights import checkpoint
from utils.weights.networks import rebuild, warm_start


class NonAttentiveTask(ParallelTask):
    """Begins with all that fits of a parallel model (`flow_from`), then of a network with attention."""

    own_names: ClassVar[
        Mapping[str, str]
    ]  # of what fits of that, but what speaks to the attention: prefix there -> here

    def __init__(
        self, manifest: Manifest, config: RunConfig, vocode: Vocode | None = None, embed: Embed | None = None
    ) -> None:
        super().__init__(manifest, config, vocode, embed)
        self.source = checkpoint.load_weights(config.flow_from, self.kind) if config.flow_from else None
        if self.source is not None:
            warm_start(self.model, self.source.state)

    def taken_from(self, architecture: str | None, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The parts of a network with attention, whose other ones are named as those of a parallel one."""
        return {
            here + name.removeprefix(there): value
            for name, value in state.items()
            for there, here in self.own_names.items()
            if name.startswith(there)
        }


class NonAttentiveTacotronTask(NonAttentiveTask):
    """Begins with the decoder of a Tacotron."""

    network = NonAttentiveTacotron
    begins_as = ("tacotron",)
    own_names = {"decoder.": "steps."}


class NonAttentiveTransformerTask(NonAttentiveTask):
    """Begins with text encoder and decoder of a Transformer; learns to read a text from the parallel model too."""

    network = NonAttentiveTransformer
    begins_as = ("transformer",)
    own_names = {
        "embedding.": "embedding.",
        "encoder.": "encoder.",
        "encoder_norm.": "encoder_norm.",
        "prenet.": "prenet.",
        "hear.": "hear.",
        "decoder.": "steps.",
        "decoder_norm.": "step_norm.",
        "mel.": "mel.",
    }

    def __init__(
        self, manifest: Manifest, config: RunConfig, vocode: Vocode | None = None, embed: Embed | None = None
    ) -> None:
        super().__init__(manifest, config, vocode, embed)
        self.teacher: Parallel | None = None
        if not config.loss.text:
            return
        if self.source is None:
            raise CloningError(
                f"loss.text is {config.loss.text:g}, but there is nothing that it is measured against: give "
                "flow_from=WEIGHTS of a parallel synthesizer, or loss.text=0"
            )
        sizes = from_dict(SynthesizerConfig, self.source.config, "synthesizer")
        self.teacher = rebuild(lambda: Parallel(sizes, self.n_symbols, self.mel["n_mels"]), self.source)
        self.teacher.eval().requires_grad_(False)

    def taught(self, output: ParallelOutput, batch: ParallelBatch) -> dict[str, Tensor]:
        """How far the text as read (B, N, C) is from what `flow_from` reads in it, for the same voice."""
        if self.teacher is None:
            return {}
        assert output.text is not None and output.vector is not None
        mask = length_mask(batch["token_lengths"], batch["tokens"].shape[1])[..., None]
        self.teacher.to(output.text.device)
        with torch.no_grad():
            wanted = self.teacher.read_text(batch["tokens"], output.vector, mask)
        return {"text": self.config.loss.text * masked_mean((output.text.float() - wanted).square(), mask)}
