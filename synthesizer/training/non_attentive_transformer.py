"""Training of the non-attentive Transformer: that of the parallel synthesizer, on the same windows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from synthesizer.batches import ParallelBatch
from synthesizer.config import RunConfig, SynthesizerConfig
from synthesizer.models.non_attentive_transformer import NonAttentiveTransformer
from synthesizer.models.parallel import Parallel
from synthesizer.models.parallel_output import ParallelOutput
from synthesizer.training.parallel import ParallelTask
from synthesizer.training.task import Embed, Vocode
from utils.config import from_dict
from utils.data.manifest import Manifest
from utils.masks import length_mask
from utils.training.distributed import masked_mean
from utils.weights import checkpoint
from utils.weights.networks import rebuild, warm_start

# Of a Transformer with attention: text encoder and decoder, but for what speaks to the attention
OF_TRANSFORMER = {
    "embedding.": "embedding.",
    "encoder.": "encoder.",
    "encoder_norm.": "encoder_norm.",
    "prenet.": "prenet.",
    "hear.": "hear.",
    "decoder.": "steps.",
    "decoder_norm.": "step_norm.",
    "mel.": "mel.",
}  # prefix there -> here


class NonAttentiveTransformerTask(ParallelTask):
    """Begins with all that fits of a parallel model (`flow_from`), then of a Transformer's text encoder and decoder."""

    network = NonAttentiveTransformer
    begins_as = ("transformer",)

    def __init__(
        self, manifest: Manifest, config: RunConfig, vocode: Vocode | None = None, embed: Embed | None = None
    ) -> None:
        super().__init__(manifest, config, vocode, embed)
        self.teacher: Parallel | None = None
        if not config.flow_from:
            return
        found = checkpoint.load_weights(config.flow_from, self.kind)
        warm_start(self.model, found.state)
        if config.loss.text:
            sizes = from_dict(SynthesizerConfig, found.config, "synthesizer")
            self.teacher = rebuild(lambda: Parallel(sizes, self.n_symbols, self.mel["n_mels"]), found)
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

    def taken_from(self, architecture: str | None, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Text encoder and decoder of a Transformer: its other parts are named as those of a parallel model."""
        return {
            here + name.removeprefix(there): value
            for name, value in state.items()
            for there, here in OF_TRANSFORMER.items()
            if name.startswith(there)
        }
