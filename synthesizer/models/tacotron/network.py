"""Tacotron as in the published SV2TTS checkpoints: CBHG encoder, location-sensitive attention, two residual LSTMs.

The names of modules are those of the published state_dict (facts: sizes and order of operations).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from synthesizer.batches import AutoregressiveBatch
from synthesizer.config import SynthesizerConfig, TacotronConfig
from synthesizer.models.autoregressive import AutoregressiveModel, AutoregressiveOutput
from synthesizer.models.base import SHORTEST_SECONDS, ModelInput
from synthesizer.models.decoding import DecoderOutput
from synthesizer.models.flow import FlowConditioning, FlowPostnet
from synthesizer.models.layers import ItemDropout
from synthesizer.models.stopping import Stopper
from synthesizer.models.tacotron.attention import TacotronMemory
from synthesizer.models.tacotron.cbhg import CBHG, Dropout, PreNet
from synthesizer.models.tacotron.decoder import Decoder
from synthesizer.models.tacotron.native import NativeDecoder, library_for
from utils.masks import length_mask

SILENT = 3.4  # published inference cuts trailing frames whose loudest channel is below -3.4


@dataclass(frozen=True)
class Randomness:
    """Everything random in a pass: dropout of the two prenets, and which hidden states are kept (zoneout)."""

    encoder: Dropout
    decoder: Dropout
    zoneout: Tensor | None = None  # (S, 2, B, H) bool, true keeps the state of the step before; training only

    @classmethod
    def of(cls, seeds: Tensor | list[int], device: torch.device | str = "cpu") -> Randomness:
        """From one seed an item: what an item gets depends on nothing else in the batch."""
        dropout = ItemDropout(seeds, device)
        return cls(dropout, dropout)


class Encoder(nn.Module):
    """Symbols to states: (B, N) -> (B, N, encoder)."""

    def __init__(self, config: TacotronConfig, n_symbols: int) -> None:
        super().__init__()
        size = config.encoder
        self.embedding = nn.Embedding(n_symbols, config.embedding)
        self.pre_net = PreNet(config.embedding, size, size, config.dropout)
        self.cbhg = CBHG(size, size, (size, size), config.encoder_banks, config.highways, config.norm)
        self.masked = config.padding == "masked"

    def forward(self, tokens: Tensor, lengths: Tensor, dropout: Dropout) -> Tensor:
        """tokens (B, N), lengths (B,) -> (B, N, encoder)"""
        x = self.pre_net(self.embedding(tokens), dropout, lengths)
        return self.cbhg(x.transpose(1, 2), lengths if self.masked else None)

    def with_speaker(self, tokens: Tensor, lengths: Tensor, speaker: Tensor, dropout: Dropout) -> tuple[Tensor, Tensor]:
        """speaker (B, D) beside every state -> (B, N, encoder + D), and which of them are tokens (B, N)"""
        states = self(tokens, lengths, dropout)
        values = torch.cat([states, speaker.unsqueeze(1).expand(-1, tokens.shape[1], -1)], dim=2)
        return values, length_mask(lengths, tokens.shape[1])


class Tacotron(AutoregressiveModel[TacotronMemory]):
    """tokens and a speaker embedding to a mel; mels are (B, M, F), S = F / reduction steps."""

    moves_attention = True

    def __init__(self, config: SynthesizerConfig, n_symbols: int, n_mels: int) -> None:
        super().__init__()
        sizes = self.config = config.tacotron
        memory = sizes.encoder + config.speaker_size
        self.emotion = None
        self.encoder = Encoder(sizes, n_symbols)
        self.encoder_proj = nn.Linear(memory, sizes.decoder, bias=False)
        self.decoder = Decoder(sizes, memory, n_mels)
        self.flow: FlowPostnet | None = None
        self.postnet: CBHG | None = None
        if not config.flow.blocks:
            self.postnet = CBHG(
                n_mels, sizes.postnet, (sizes.postnet, n_mels), sizes.postnet_banks, sizes.highways, sizes.norm
            )
            self.post_proj = nn.Linear(sizes.postnet, n_mels, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        if config.flow.blocks:  # last: it has initial values of its own
            self.flow = FlowPostnet(config.flow, config.sampling, n_mels, memory, config.speaker_size)

    @property
    def reduction(self) -> int:
        """Frames that a decoder step makes: part of the weights, since it grows finer in training."""
        return int(self.decoder.r)

    def set_reduction(self, reduction: int) -> None:
        """Make so many frames a step. Raises ValueError for more than `max_reduction`."""
        if not 1 <= reduction <= self.config.max_reduction:
            raise ValueError(f"reduction is {reduction}; it must be 1 to {self.config.max_reduction}")
        self.decoder.r.fill_(reduction)

    def encode_text(self, tokens: Tensor, lengths: Tensor, speaker: Tensor, dropout: Dropout) -> TacotronMemory:
        """tokens (B, N), lengths (B,), speaker (B, D): the d-vector stands beside every encoder state."""
        values, mask = self.encoder.with_speaker(tokens, lengths, speaker, dropout)
        return self.decoder.attn_net.prepare(values, self.encoder_proj(values), mask, speaker)

    def encode(self, inputs: ModelInput, dropout: ItemDropout) -> TacotronMemory:
        """The text and the voice as the decoder sees them."""
        return self.encode_text(inputs.tokens, inputs.token_lengths, inputs.speaker, dropout)

    def forward(
        self, batch: AutoregressiveBatch, randomness: Randomness | None = None, forced_alignment: bool = False
    ) -> AutoregressiveOutput:
        """Teacher forcing of a batch; shapes as in `AutoregressiveBatch`.

        forced_alignment: the decoder also gets the token that it has just spoken (the batch's targets). Then no step
        waits for the one before, and all are made at once.
        """
        mel, lengths = batch["mel"], batch["mel_lengths"]
        if randomness is None:
            randomness = self._randomness(batch["seeds"], mel.shape[2] // self.reduction, mel.device)
        memory = self.encode_text(batch["tokens"], batch["token_lengths"], batch["speaker"], randomness.encoder)
        prenet = self.decoder.prenet(self.previous_frames(mel), randomness.decoder, self.steps_of(lengths))
        if forced_alignment:
            last = (batch["token_lengths"] - 1)[:, None]  # is spoken on when all else is said
            targets = torch.where(batch["targets"] < 0, last, batch["targets"])
            given = nn.functional.one_hot(targets, memory.mask.shape[1]).to(memory.values.dtype)
            output, attention = self.decoder.forced_alignment(memory, prenet, given)
        else:
            output, attention = self._step_by_step(memory, prenet, randomness.zoneout)
        return self.training_output(self._projected(output, attention), memory, batch)

    def force(
        self, memory: TacotronMemory, mel: Tensor, lengths: Tensor, dropout: ItemDropout, targets: Tensor | None
    ) -> DecoderOutput:
        """Teacher forcing (see `AutoregressiveModel.force`); the attention finds the tokens, targets are not used."""
        prenet = self.decoder.prenet(self.previous_frames(mel), dropout, self.steps_of(lengths))
        return self._projected(*self._step_by_step(memory, prenet, None))

    def _projected(self, output: Tensor, attention: Tensor) -> DecoderOutput:
        """output (B, S, H + E) of all steps, attention (B, S, N) -> DecoderOutput"""
        frames, stop = self.decoder.project(output, self.decoder.mel_weight(self.reduction))
        return DecoderOutput(frames.transpose(1, 2).flatten(2), attention, stop)  # (B, S, M, r) -> (B, M, F)

    def _step_by_step(self, memory: TacotronMemory, prenet: Tensor, zoneout: Tensor | None) -> tuple[Tensor, Tensor]:
        """prenet (B, S, P), zoneout (S, 2, B, H) -> outputs (B, S, H + E), attention (B, S, N)"""
        state, outputs, attentions = self.decoder.start(memory), [], []
        for step in range(prenet.shape[1]):
            keep = None if zoneout is None else zoneout[step]
            output, attention, state = self.decoder.step(memory, state, prenet[:, step], keep)
            outputs.append(output)
            attentions.append(attention)
        return torch.stack(outputs, 1), torch.stack(attentions, 1)

    def free_run(
        self, memory: TacotronMemory, dropout: Dropout, stopper: Stopper, max_steps: int, max_forward: int = 0
    ) -> DecoderOutput:
        """Free running (see `AutoregressiveModel.free_run`)."""
        weight = self.decoder.mel_weight(self.reduction)
        state, frame = self.decoder.start(memory), memory.values.new_zeros(len(memory.values), self.decoder.n_mels)
        tokens = torch.arange(memory.mask.shape[1], device=memory.mask.device)
        place = tokens.new_zeros(len(memory.mask))
        mels, attentions, stops = [], [], []
        for _ in range(max_steps):
            prenet = self.decoder.prenet(frame, dropout)
            ahead = tokens - place[:, None]
            allowed = (ahead >= 0) & (ahead <= max_forward) if max_forward else None
            output, attention, state = self.decoder.step(memory, state, prenet, allowed=allowed)
            place = attention.argmax(dim=1)
            frames, stop = self.decoder.project(output, weight)
            frame = frames[:, :, -1]
            mels.append(frames)
            attentions.append(attention)
            stops.append(stop.sigmoid())
            if stopper(stops[-1], attention):
                break
        return DecoderOutput(torch.cat(mels, 2), torch.stack(attentions, 1), torch.stack(stops, 1))

    def use_native_decoder(self) -> None:
        """Decode by `NativeDecoder` (see `AcousticModel.use_native_decoder`)."""
        if self.native_free_run is None and (library := library_for(self.decoder)) is not None:
            self.native_free_run = NativeDecoder(self.decoder, self.reduction, library).free_run

    def post(
        self, mel: Tensor, lengths: Tensor, condition: Tensor, conditioning: FlowConditioning | None = None
    ) -> Tensor:
        """The postnet or the flow (see `AutoregressiveModel.post`)."""
        if self.postnet is None:
            assert self.flow is not None and conditioning is not None
            return self.flow.draw(mel, conditioning, lengths)
        masked = lengths.clamp(max=mel.shape[2]) if self.config.padding == "masked" else None
        return self.post_proj(self.postnet(mel, masked)).transpose(1, 2)

    def least_frames(self, frame_seconds: float) -> int:
        """Frames before the stop token counts."""
        return round(SHORTEST_SECONDS / frame_seconds)

    def kept_frames(self, mel: Tensor) -> int:
        """Published inference cuts silence at the end of mel (M, F)."""
        if self.config.padding != "published":
            return mel.shape[1]
        loud = (mel.amax(dim=0) >= -SILENT).nonzero()
        return int(loud[-1]) + 1 if len(loud) else 1

    def _randomness(self, seeds: Tensor, steps: int, device: torch.device) -> Randomness:
        dropout = ItemDropout(seeds, device)
        zoneout = None
        if self.training and self.config.zoneout:
            shape = torch.Size([len(seeds), steps, 2, self.config.lstm])
            zoneout = ~dropout.keep(shape, self.config.zoneout, device)
            zoneout = zoneout.permute(1, 2, 0, 3)
        return Randomness(dropout, dropout, zoneout)
