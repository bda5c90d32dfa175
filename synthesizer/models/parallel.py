"""A parallel synthesizer: tokens -> durations, pitch and energy -> all frames at once.

The pieces are those of FastPitch (arXiv 2006.06873) with convolutional blocks; the speaker embedding shifts and scales
every block (FiLM). The mean mel of an L1 loss is over-smooth, so a flow-matching decoder (Matcha-TTS, arXiv 2309.03199)
draws the mel around it. Durations come from forced alignment, so it cannot skip or repeat. An emotion, where it is
trained with some, joins the speaker: it is a matter of pitch, energy and durations, which are predicted here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthesizer.batches import ParallelBatch
from synthesizer.config import SynthesizerConfig
from synthesizer.models import style
from synthesizer.models.alignment_quality import AlignmentQuality, planned_quality
from synthesizer.models.base import AcousticModel, Generated, GenerationSettings, ModelInput, Recording, require_finite
from synthesizer.models.durations import Predictor, planned_durations, upsampled, upsampling
from synthesizer.models.emotion import EmotionEncoder
from synthesizer.models.flow import FlowDecoder, FlowOutput
from synthesizer.models.frame_classifier import FrameClassifier
from synthesizer.models.layers import ConvStack, HashedDropout
from synthesizer.models.parallel_output import Conditioning, Encoding, FrameTargets, ParallelOutput
from synthesizer.models.prompt import Prompt, TokenAttention
from synthesizer.text.symbols import SymbolTable
from utils.masks import length_mask
from utils.voice import USUAL_PACE, USUAL_SPREAD
from utils.weights.stored_names import store_as

N_PROSODY = 3  # energy, pitch, voicing: see `synthesizer.features.prosody`
N_POSITION = 3
STORED_NAMES = {
    "emotion_projection": "feel", "facts_predictor": "guess", "frame_classifier": "listener",
    "statistics_projection": "voice",
}  # fmt: skip


class Parallel(AcousticModel):
    """Parallel synthesizer. Mels are (B, F, M) in here, normalized by `mel_mean` and `mel_std`."""

    needs_durations = needs_prosody = True
    max_characters = 200
    mel_mean: Tensor
    mel_std: Tensor

    def __init__(self, config: SynthesizerConfig, n_symbols: int, n_mels: int) -> None:
        super().__init__()
        self.config = config.parallel
        channels = self.config.channels
        self.embedding = nn.Embedding(n_symbols, self.text_width(config))
        self.speaker = nn.Linear(config.speaker_size, channels)
        self.emotion = EmotionEncoder(config.emotion, n_mels) if config.emotion.labels else None
        if self.emotion is not None:
            self.emotion_projection = nn.Linear(config.emotion.size, channels, bias=False)
            nn.init.zeros_(self.emotion_projection.weight)  # begins as the model without emotions
        self.add_text_encoder(config)
        self.predictor = Predictor(channels, 1 + N_PROSODY, self.config.clauses)
        self.prosody = nn.Linear(N_PROSODY, channels)
        self.position = nn.Linear(N_POSITION, channels)
        self.decoder = ConvStack(self.config.decoder_blocks, *self._block_sizes)
        self.add_smooth_mel(config, n_mels)
        self.flow = None
        if self.config.decoder == "flow":
            self.flow = FlowDecoder(self.config.flow, config.sampling, n_mels, channels, channels)
        self.statistics_projection: nn.Linear | None = None
        self.facts_predictor: nn.Sequential | None = None
        self.frame_classifier: FrameClassifier | None = None
        self.moves_pitch, self.adaptable = True, self.flow is not None
        self.uses_voice_statistics = self.finds_symbols = self.config.voice_statistics
        if self.config.voice_statistics:
            self.statistics_projection = nn.Linear(3, channels, bias=False)
            nn.init.zeros_(self.statistics_projection.weight)  # so that weights without it go on as they were
            self.facts_predictor = nn.Sequential(nn.Linear(config.speaker_size, 64), nn.SiLU(), nn.Linear(64, 3))
            self.frame_classifier = FrameClassifier(n_mels, n_symbols)
        self.prompt = None
        if self.config.prompt_tokens:
            width = self.config.prompt_width
            self.prompt = Prompt(n_mels, channels, self.config.prompt_tokens, width)
            self.text_prompt, self.frame_prompt = TokenAttention(channels, width), TokenAttention(channels, width)
            self.prompt_voice = nn.Linear(width, channels, bias=False)
            nn.init.zeros_(self.prompt_voice.weight)
        self.register_buffer("mel_mean", torch.zeros(n_mels))
        self.register_buffer("mel_std", torch.ones(n_mels))
        store_as(self, STORED_NAMES)

    @property
    def _block_sizes(self) -> tuple[int, int, int, int]:
        sizes = self.config
        return sizes.channels, sizes.channels, sizes.kernel, sizes.expansion

    def text_width(self, config: SynthesizerConfig) -> int:
        """Channels of a symbol."""
        return config.parallel.channels

    def add_text_encoder(self, config: SynthesizerConfig) -> None:
        """What `read_text` needs beside the symbols; first values are drawn in that order."""
        self.encoder = ConvStack(self.config.encoder_blocks, *self._block_sizes)

    def read_text(self, tokens: Tensor, vector: Tensor, mask: Tensor) -> Tensor:
        """tokens (B, N), vector (B, C) of the voice, mask (B, N, 1) -> (B, N, C)"""
        return self.encoder(self.embedding(tokens), vector, mask)

    def add_smooth_mel(self, config: SynthesizerConfig, n_mels: int) -> None:
        """What `smooth_mel` needs."""
        self.mean = nn.Linear(self.config.channels, n_mels)

    def smooth_mel(
        self,
        hidden: Tensor,
        vector: Tensor,
        mask: Tensor,
        recorded: Tensor | None = None,
        dropout: HashedDropout | None = None,
    ) -> Tensor:
        """The mean mel (B, F, M) of hidden frames (B, F, C), of a voice vector (B, C), mask (B, F, 1).

        recorded: the true one, for a network that needs it in training; dropout too.
        """
        return self.mean(hidden) * mask

    def forward(self, batch: ParallelBatch) -> ParallelOutput:
        """Training: everything the losses need, for a window of frames of each item; shapes as in `ParallelBatch`."""
        dropout = HashedDropout(batch["seeds"]) if self.training else None
        emotion = None
        if self.emotion is not None:
            emotion = self.emotion(batch["emotion"], batch["mel"], batch["window_lengths"], batch["seeds"])
        embedding = emotion.embedding if emotion is not None else None
        prompt = self.read_prompt(batch["prompt"], batch["prompt_lengths"])
        conditioning = self.condition(batch["speaker"], embedding, batch["voice_statistics"], *prompt)
        if dropout is not None:
            conditioning = self._condition_dropout(conditioning, dropout)
        encoding = self.encode(batch["tokens"], batch["token_lengths"], conditioning, dropout, batch["marks"])
        width = batch["mel"].shape[2]
        places = batch["window_start"][:, None] + torch.arange(width, device=batch["mel"].device)
        index, position = upsampled(batch["durations"], places)
        mel, mask = self.recorded(batch)
        prosody = self.filled(batch["prosody"], conditioning)
        hidden = self.frames(encoding.hidden, prosody, index, position, conditioning, mask)
        recorded = mel if self.training else None  # a validation measures what is spoken
        mean = self.smooth_mel(hidden, conditioning.vector, mask, recorded, dropout)
        flow = drawn = frame_classes = frame_targets = None
        if self.frame_classifier is not None:
            frame_classes = self.frame_classifier(mel, mask)
            of_each_token = (batch["tokens"], batch["silent"], batch["durations"])
            frame_targets = FrameTargets(*(of_tokens.gather(1, index) for of_tokens in of_each_token))
        if self.flow is not None and "noise" in batch:
            point, target = self.flow.path(mel, batch["noise"], batch["time"])
            flow = FlowOutput(
                self.flow.velocity(point, batch["time"], mean, hidden, conditioning.vector, mask), target, mask
            )
            if "draw" in batch:
                drawn = self.flow.sample(batch["draw"] * mask, mean, hidden, conditioning.vector, mask)
        return ParallelOutput(
            encoding.durations_log, encoding.relative, self._relative(batch["prosody"], conditioning), mean, mel, mask,
            flow, drawn, conditioning.predicted, frame_classes, frame_targets, emotion, encoding.text,
            conditioning.vector,
        )  # fmt: skip

    def recorded(self, batch: ParallelBatch) -> tuple[Tensor, Tensor]:
        """The normalized mel (B, W, M) of the windows of a batch, and its mask (B, W, 1)."""
        mask = length_mask(batch["window_lengths"], batch["mel"].shape[2])[..., None]
        return self.normalized(batch["mel"].transpose(1, 2)) * mask, mask

    def normalized(self, mel: Tensor) -> Tensor:
        """mel (B, F, M) in the units of `utils.audio.mel` -> (B, F, M)"""
        return (mel - self.mel_mean) / self.mel_std

    def denormalized(self, mel: Tensor) -> Tensor:
        """The inverse of `normalized`: (B, F, M) -> (B, F, M)"""
        return mel * self.mel_std + self.mel_mean

    def condition(
        self,
        speaker: Tensor,
        emotion: Tensor | None = None,
        voice_statistics: Tensor | None = None,
        prompt: Tensor | None = None,
        present: Tensor | None = None,
    ) -> Conditioning:
        """Who speaks, and how: speaker (B, D) of norm 1, emotion (B, E), voice_statistics (B, 3) as `utils.voice`
        has them (NaN where one is not known: it is predicted from the embedding), prompt (B, Q, J) of `read_prompt`,
        for the items that have one (B,): all, if not told.
        """
        embedding = speaker * math.sqrt(speaker.shape[1])
        vector = self.speaker(embedding)
        predicted: Tensor | None = None
        if self.statistics_projection is not None and self.facts_predictor is not None:
            predicted = self.facts_predictor(embedding)
            known, guess = voice_statistics, predicted.detach()
            voice_statistics = guess if known is None else torch.where(known.isnan(), guess, known)
            vector = vector + self.statistics_projection(style.normalized_statistics(voice_statistics).to(vector.dtype))
        if self.prompt is not None:
            all_or_none = torch.full((len(speaker),), prompt is not None, device=speaker.device)
            present = all_or_none if present is None or prompt is None else present
            prompt = vector.new_zeros(len(speaker), 1, self.config.prompt_width) if prompt is None else prompt
            vector = vector + self.prompt_voice(prompt.mean(dim=1)) * present[:, None]
        else:
            prompt = present = None
        vector = F.silu(vector)
        if emotion is not None:
            vector = vector + self.emotion_projection(emotion)  # a sum: it carries over to voices without acted speech
        used = voice_statistics if self.statistics_projection is not None else None
        return Conditioning(vector, used, prompt, present, predicted)

    def read_prompt(self, mel: Tensor, lengths: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The tokens of reference mels (see `AcousticModel.read_prompt`)."""
        if self.prompt is None:
            return None, None
        mask = length_mask(lengths, mel.shape[2])[..., None]
        return self.prompt(self.normalized(mel.transpose(1, 2)) * mask, mask), lengths > 0

    def _condition_dropout(self, conditioning: Conditioning, dropout: HashedDropout) -> Conditioning:
        """In training, some items are learned without their voice, and some without frames of a reference."""
        one = torch.Size((len(conditioning.vector), 1))
        kept = dropout.keep(one, self.config.speaker_dropout)
        conditioning = conditioning._replace(vector=conditioning.vector * kept.to(conditioning.vector.dtype))
        if conditioning.present is None:
            return conditioning
        prompted = dropout.keep(one, self.config.prompt_dropout)
        return conditioning._replace(present=conditioning.present & (kept & prompted)[:, 0])

    def encode(
        self,
        tokens: Tensor,
        lengths: Tensor,
        conditioning: Conditioning,
        dropout: HashedDropout | None = None,
        marks: Tensor | None = None,
    ) -> Encoding:
        """tokens (B, N), lengths (B,), conditioning from `condition` -> Encoding; dropout in training only.

        marks (B, N): ids of the marks at which clauses end (`synthesizer.text.clauses`).
        """
        mask = length_mask(lengths, tokens.shape[1])[..., None]
        text = hidden = self.read_text(tokens, conditioning.vector, mask)
        if self.prompt is not None:
            hidden = self.text_prompt(hidden, conditioning.tokens, conditioning.present) * mask
        if dropout is not None:
            hidden = dropout(hidden, self.config.dropout, lengths)
        predictor_dropout = self.config.predictor_dropout
        drop = (lambda x: x) if dropout is None else (lambda x: dropout(x, predictor_dropout, lengths))
        predicted = self.predictor(hidden, conditioning.vector, mask, marks, drop) * mask
        durations, relative = predicted[..., 0].float(), predicted[..., 1:]
        if conditioning.voice_statistics is not None:  # log(1 + frames) at a usual pace -> at the voice's own
            slower = (conditioning.voice_statistics[:, 2:] - USUAL_PACE).exp()
            durations = torch.log1p((torch.expm1(durations) * slower).clamp(min=-0.5))
        return Encoding(hidden, durations, self._absolute(relative, conditioning), mask, relative, text)

    def _relative(self, prosody: Tensor, conditioning: Conditioning) -> Tensor:
        """Energy, pitch and voicing of tokens (B, N, 3), the pitch against the voice's own; 0 where it is unvoiced."""
        if conditioning.voice_statistics is None:
            return prosody
        energy, pitch, voicing = prosody.unbind(dim=-1)
        pitch = (pitch - conditioning.voice_statistics[:, :1]) * (USUAL_SPREAD / conditioning.voice_statistics[:, 1:2])
        return torch.stack([energy, pitch * (voicing > 0), voicing], dim=-1)

    def _absolute(self, relative: Tensor, conditioning: Conditioning) -> Tensor:
        """The inverse of `_relative`; an unvoiced token has the voice's median."""
        if conditioning.voice_statistics is None:
            return relative
        energy, pitch, voicing = relative.float().unbind(dim=-1)
        pitch = pitch * (conditioning.voice_statistics[:, 1:2] / USUAL_SPREAD) + conditioning.voice_statistics[:, :1]
        return torch.stack([energy, pitch, voicing], dim=-1)

    def scaled(self, encoding: Encoding, conditioning: Conditioning, pitch_scale: float) -> Tensor:
        """The predicted prosody (B, N, 3), its pitch `pitch_scale` times as far from its median, and that the voice's
        own, but of networks with emotions, which raise it."""
        if conditioning.voice_statistics is None or (self.emotion is not None and pitch_scale == 1):
            return encoding.prosody
        frames = torch.expm1(encoding.durations_log).clamp(min=0) * encoding.mask[..., 0]
        median = 0.0 if self.emotion is None else None  # relative to the voice's own
        return self._absolute(style.scale_pitch(encoding.relative.float(), frames, pitch_scale, median), conditioning)

    def filled(self, prosody: Tensor, conditioning: Conditioning) -> Tensor:
        """Prosody of a recording (B, N, 3) as the decoder takes it: unvoiced tokens have the voice's median."""
        return self._absolute(self._relative(prosody, conditioning), conditioning)

    def frames(
        self, hidden: Tensor, prosody: Tensor, index: Tensor, position: Tensor, conditioning: Conditioning, mask: Tensor
    ) -> Tensor:
        """Tokens to frames: hidden (B, N, C), prosody (B, N, 3), index (B, F), position (B, F, 3) -> (B, F, C)"""
        tokens = hidden + self.prosody(prosody.to(hidden.dtype))
        frames = tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[2]))
        frames = (frames + self.position(position.to(frames.dtype))) * mask
        if self.prompt is not None:
            frames = self.frame_prompt(frames, conditioning.tokens, conditioning.present) * mask
        return self.decoder(frames, conditioning.vector, mask)

    def mels(
        self,
        encoding: Encoding,
        durations: Tensor,
        prosody: Tensor,
        conditioning: Conditioning,
        seeds: Sequence[int],
        unconditional: Encoding | None = None,
        recorded: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Inference: durations (B, N) in frames, prosody (B, N, 3), one seed an item -> mel (B, M, F), lengths (B,).

        unconditional: the same text encoded without a voice, for classifier-free guidance. recorded: see `smooth_mel`.
        """
        hidden, mel, mask = self._smooth(encoding, durations, prosody, conditioning, recorded)
        if self.flow is not None:
            without = None
            if unconditional is not None:
                no_voice = conditioning.unconditional()
                other, smooth, _ = self._smooth(unconditional, durations, prosody, no_voice, recorded)
                without = (smooth, other, no_voice.vector)
            mel = self.flow.draw_of_seeds(seeds, mel, hidden, conditioning.vector, mask, without)
        return self.denormalized(mel).transpose(1, 2), durations.sum(dim=1)

    def _smooth(
        self,
        encoding: Encoding,
        durations: Tensor,
        prosody: Tensor,
        conditioning: Conditioning,
        recorded: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the flow is given: hidden (B, F, C), the smooth mel (B, F, M), normalized, and their mask (B, F, 1).

        Arguments are those of `mels`.
        """
        index, position = upsampling(durations)
        mask = length_mask(durations.sum(dim=1), index.shape[1])[..., None]
        hidden = self.frames(encoding.hidden, prosody, index, position, conditioning, mask)
        return hidden, self.smooth_mel(hidden, conditioning.vector, mask, recorded), mask

    def _unconditional(self, tokens: Tensor, lengths: Tensor, conditioning: Conditioning) -> Encoding | None:
        """The text (B, N) encoded without a voice, for classifier-free guidance; None where there is no guidance."""
        guided = self.flow is not None and self.flow.sampling.guidance
        return self.encode(tokens, lengths, conditioning.unconditional()) if guided else None

    def generate(self, inputs: ModelInput, settings: GenerationSettings) -> list[Generated]:
        """The mel of each sentence (see `AcousticModel.generate`)."""
        tokens, lengths, max_abs = inputs.tokens, inputs.token_lengths, settings.mel.max_abs
        conditioning = self.condition(inputs.speaker, inputs.emotion, inputs.voice_statistics, inputs.prompt)
        encoding = self.encode(tokens, lengths, conditioning, marks=inputs.marks)
        unconditional = self._unconditional(tokens, lengths, conditioning)
        require_finite(encoding.durations_log, "durations")
        durations = planned_durations(
            style.scale_durations(encoding.durations_log, inputs.style), tokens, lengths, settings
        )
        prosody = self.scaled(encoding, conditioning, settings.pitch_scale)
        if self.config.clauses and inputs.marks is not None:
            question, seconds = settings.table.ids["?"], settings.mel.frame_seconds
            prosody = style.raise_questions(prosody, durations, inputs.marks, question, seconds)
        prosody = style.shift_pitch(prosody, settings.pitch_shift, inputs.style)
        mels, frame_counts = self.mels(encoding, durations, prosody, conditioning, inputs.seeds, unconditional)
        index, _ = upsampling(durations)
        require_finite(mels, "mels")
        mels = style.change_level(inputs.compensated(mels), index, inputs.style, settings.mel)
        return [
            Generated(mel[:, :n].clamp(-max_abs, max_abs), F.one_hot(places[:n], int(size)), "durations")
            for mel, places, n, size in zip(mels, index, frame_counts.tolist(), lengths, strict=True)
        ]

    def teacher_forced(self, inputs: ModelInput, recording: Recording, silence: float) -> Tensor:
        """The mel (1, M, F) as `generate` makes it, with the durations and the prosody of the recording."""
        assert recording.durations is not None and recording.prosody is not None
        conditioning = self.condition(inputs.speaker, inputs.emotion, inputs.voice_statistics, inputs.prompt)
        encoding = self.encode(inputs.tokens, inputs.token_lengths, conditioning)
        unconditional = self._unconditional(inputs.tokens, inputs.token_lengths, conditioning)
        prosody = self.filled(recording.prosody, conditioning)
        recorded = self.normalized(recording.mel.transpose(1, 2))
        given = (encoding, recording.durations, prosody, conditioning, inputs.seeds, unconditional, recorded)
        return inputs.compensated(self.mels(*given)[0])

    def spoken_again(
        self, tokens: Tensor, recording: Recording, conditioning: Conditioning
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the flow is given to draw a recording's tokens (1, N), with its durations and prosody: hidden (1, F, C),
        the smooth mel (1, F, M), normalized, and their mask (1, F, 1)."""
        assert recording.durations is not None and recording.prosody is not None
        encoding = self.encode(tokens, torch.tensor([tokens.shape[1]], device=tokens.device), conditioning)
        prosody = self.filled(recording.prosody, conditioning)
        return self._smooth(encoding, recording.durations, prosody, conditioning)

    def pace(self, mel: Tensor) -> float:
        """log of the mean frames that a phone takes in mel (1, M, F)."""
        assert self.frame_classifier is not None
        mask = torch.ones_like(mel[:, :1].transpose(1, 2), dtype=torch.bool)
        return float(self.frame_classifier.pace(self.normalized(mel.transpose(1, 2)), mask))

    def frame_symbols(self, mel: Tensor) -> Tensor | None:
        """Logits (B, F, V) of the symbol said in each frame of mel (B, M, F); None without a classifier."""
        if self.frame_classifier is None:
            return None
        mask = torch.ones_like(mel[:, :1].transpose(1, 2), dtype=torch.bool)
        return self.frame_classifier(self.normalized(mel.transpose(1, 2)), mask).symbols

    def alignment_quality(self, alignment: Tensor, tokens: Sequence[int], table: SymbolTable) -> AlignmentQuality:
        """Of planned durations."""
        return planned_quality(alignment, tokens, table)
