"""How each network makes mels of a batch of tokens: on its own, or led by a recording."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthesizer.config import SynthesizerConfig
from synthesizer.data.dataset import step_targets
from synthesizer.emotion_input import embed_emotion
from synthesizer.models.alignment_quality import JUMP, Health, health
from synthesizer.models.emotion import neutral
from synthesizer.models.flow import Spoken
from synthesizer.models.layers import ItemDropout
from synthesizer.models.parallel import Conditioning, Parallel, upsampling, whole_durations
from synthesizer.models.stopping import EachByItself, frame_limit
from synthesizer.models.tacotron.network import Tacotron
from synthesizer.models.transformer import Transformer
from synthesizer.text.symbols import END, PAUSES, SILENCE, WORD_BOUNDARY
from utils.errors import CloningError

if TYPE_CHECKING:
    from synthesizer.inference import Reading, Synthesizer

LONGEST_TOKEN_SECONDS = 0.75
SHORTEST_SECONDS = 0.2  # of a text, however short, at rate 1
SILENT = 3.4  # published inference cuts trailing frames whose loudest channel is below -3.4


class Told(NamedTuple):
    """What a parallel model may be told of a voice beside its embedding: see `Parallel.condition`."""

    facts: Tensor  # (B, 3)
    prompt: Tensor | None  # (B, M, R)
    prompt_lengths: Tensor | None  # (B,)


def generate(
    synthesizer: Synthesizer,
    readings: list[Reading],
    speakers: Tensor,
    rate: float,
    seed: int,
    emotion: Tensor | None,
    voice: Told | None = None,
) -> list[tuple]:
    """Per item mel (M, F), alignment (F, N), stop reason."""
    lengths = torch.tensor([len(r.tokens) for r in readings], device=synthesizer.device)
    padded, marks = (
        nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in rows], batch_first=True).to(synthesizer.device)
        for rows in zip(*readings, strict=True)
    )
    if isinstance(synthesizer.network, Tacotron):
        return _tacotron(synthesizer, padded, lengths, speakers, rate, seed)
    if isinstance(synthesizer.network, Parallel):
        who = synthesizer.network.condition(speakers, emotion, *(voice or ()))
        return _parallel(synthesizer, padded, marks, lengths, who, rate, seed)
    condition = synthesizer.network.condition(speakers, emotion)
    return _transformer(synthesizer, padded, lengths, speakers, condition, rate, seed)


def _parallel(
    synthesizer: Synthesizer, tokens: Tensor, marks: Tensor, lengths: Tensor, who: Conditioning, rate: float, seed: int
) -> list[tuple]:
    model: Parallel = synthesizer.network
    encoding = model.encode(tokens, lengths, who, marks=marks)
    nobody = model.encode(tokens, lengths, who.nobody()) if model.config.guidance else None
    _require_finite(encoding.durations_log, "durations")
    frames = torch.expm1(encoding.durations_log) * min(max(synthesizer.details.tempo, 0.7), 1.5)
    timeless = torch.tensor([s in (END, WORD_BOUNDARY) for s in synthesizer.text.symbols], device=tokens.device)
    silent = torch.tensor([s in (SILENCE, *PAUSES) for s in synthesizer.text.symbols], device=tokens.device)
    frames = frames.clamp(max=LONGEST_TOKEN_SECONDS / synthesizer.mel.frame_seconds)
    frames = torch.where(silent[tokens], frames.clamp(min=0), frames.clamp(min=1)) * ~timeless[tokens]
    totals = frames.cumsum(dim=1).gather(1, lengths[:, None] - 1)
    frames = frames * (SHORTEST_SECONDS / synthesizer.mel.frame_seconds / totals).clamp(min=1)
    durations = whole_durations(frames, lengths, rate)
    mels, frame_counts = model.mels(encoding, durations, encoding.prosody, who, [seed] * len(tokens), nobody)
    index, _ = upsampling(durations)
    _require_finite(mels, "mels")
    mels = mels.clamp(-synthesizer.mel.max_abs, synthesizer.mel.max_abs)
    return [
        (mel[:, :n], F.one_hot(places[:n], int(size)), "durations")
        for mel, places, n, size in zip(mels, index, frame_counts.tolist(), lengths, strict=True)
    ]


def _tacotron(
    synthesizer: Synthesizer, tokens: Tensor, lengths: Tensor, speakers: Tensor, rate: float, seed: int
) -> list[tuple]:
    model: Tacotron = synthesizer.network
    reduction, sizes = model.reduction, lengths.tolist()
    dropout = ItemDropout([seed] * len(tokens), synthesizer.device)
    limits = [frame_limit(n, synthesizer.text.config.symbol_set) for n in sizes]
    least = round(SHORTEST_SECONDS / synthesizer.mel.frame_seconds)
    stopper = EachByItself(sizes, limits, reduction, synthesizer.mel.frame_seconds, least=least)
    memory = model.remember(tokens, lengths, speakers, dropout)
    reach = JUMP if synthesizer.monotonic else 0
    output = model.generate(memory, dropout, stopper, math.ceil(max(limits) / reduction), reach)
    spoken = Spoken.of(output["attention"], memory.values, model.reduction, speakers, [seed] * len(tokens))
    published = model.config.padding == "published"
    found = []
    for i, frames in enumerate(stopper.frames):
        length = torch.tensor([frames], device=synthesizer.device)
        mel = model.post(output["mel"][i : i + 1, :, :frames], length, spoken.item(i, frames))[0]
        _require_finite(mel, "mels")
        mel = mel.clamp(-synthesizer.mel.max_abs, synthesizer.mel.max_abs)
        alignment = output["attention"][i, : frames // reduction, : sizes[i]].repeat_interleave(reduction, dim=0)
        if published:
            loud = (mel.amax(dim=0) >= -SILENT).nonzero()
            kept = int(loud[-1]) + 1 if len(loud) else 1
            mel, alignment = mel[:, :kept], alignment[:kept]
        found.append((_resample(mel, rate), _resample(alignment.t(), rate).t(), stopper.reasons[i] or "limit"))
    return found


def _transformer(
    synthesizer: Synthesizer,
    tokens: Tensor,
    lengths: Tensor,
    speakers: Tensor,
    condition: Tensor,
    rate: float,
    seed: int,
) -> list[tuple]:
    model: Transformer = synthesizer.network
    timed = (lengths - 1).tolist()  # the end symbol takes no time
    limits = [frame_limit(n, synthesizer.text.config.symbol_set) for n in timed]
    stopper = EachByItself(timed, limits, model.reduction, synthesizer.mel.frame_seconds)
    memory = model.remember(tokens, lengths, condition)
    dropout = ItemDropout([seed] * len(tokens), synthesizer.device)
    output = model.generate(memory, dropout, stopper, math.ceil(max(limits) / model.reduction))
    spoken = Spoken.of(output["attention"], memory.values, model.reduction, speakers, [seed] * len(tokens))
    found = []
    for i, frames in enumerate(stopper.frames):
        length = torch.tensor([frames], device=synthesizer.device)
        row = slice(i, i + 1)
        mel = model.post(output["mel"][row, :, :frames], length, condition[row], spoken.item(i, frames))[0]
        _require_finite(mel, "mels")
        mel = mel.clamp(-synthesizer.mel.max_abs, synthesizer.mel.max_abs)
        alignment = output["attention"][i, : frames // model.reduction, : int(lengths[i])]
        alignment = alignment.repeat_interleave(model.reduction, dim=0)
        found.append((_resample(mel, rate), _resample(alignment.t(), rate).t(), stopper.reasons[i] or "limit"))
    return found


def lead_parallel(
    synthesizer: Synthesizer,
    tokens: Tensor,
    lengths: Tensor,
    speakers: Tensor,
    durations: np.ndarray,
    prosody: np.ndarray,
    seed: int,
) -> Tensor:
    """The parallel model's mel (1, M, F) with the durations (N,) and the prosody (N, 3) of a recording."""
    emotion = embed_emotion(synthesizer.network, synthesizer.emotions, synthesizer.mel, None)
    who = synthesizer.network.condition(speakers, emotion)
    encoding = synthesizer.network.encode(tokens, lengths, who)
    frames = torch.as_tensor(np.asarray(durations, dtype=np.int64), device=synthesizer.device)[None]
    spoken = torch.as_tensor(np.asarray(prosody, dtype=np.float32), device=synthesizer.device)[None]
    return synthesizer.network.mels(encoding, frames, synthesizer.network.filled(spoken, who), who, [seed])[0]


def lead_step_by_step(
    synthesizer: Synthesizer,
    tokens: Tensor,
    lengths: Tensor,
    speakers: Tensor,
    mel: np.ndarray,
    durations: np.ndarray | None,
    seed: int,
) -> Tensor:
    """The mel (1, M, F or a little more) of a model that hears the true frame before each step."""
    target = torch.as_tensor(np.asarray(mel, dtype=np.float32), device=synthesizer.device)[None]
    missing = -target.shape[2] % synthesizer.network.reduction  # the last step is a whole one
    batch = {
        "tokens": tokens,
        "token_lengths": lengths,
        "speaker": speakers,
        "mel": F.pad(target, (0, missing), value=-synthesizer.mel.max_abs),
        "mel_lengths": torch.tensor([target.shape[2]], device=synthesizer.device),
        "seeds": torch.tensor([seed]),
    }
    if isinstance(synthesizer.network, Transformer):
        steps = batch["mel"].shape[2] // synthesizer.network.reduction
        batch["targets"] = torch.from_numpy(step_targets(durations, synthesizer.network.reduction, steps))[None]
        if synthesizer.emotions:
            batch["emotion"] = torch.tensor([neutral(synthesizer.emotions)])
    output = synthesizer.network(batch)
    if synthesizer.network.flow is not None:
        return synthesizer.network.flow.draw(output["mel"], output["spoken"], batch["mel_lengths"])
    return output["linear"]


def _require_finite(values: Tensor, what: str) -> None:
    if not torch.isfinite(values).all():
        raise CloningError(f"the synthesizer makes {what} that are not finite: its weights are damaged, take others")


def _resample(frames: Tensor, rate: float) -> Tensor:
    """frames (C, F) -> (C, round(F / rate)) by linear interpolation."""
    if rate == 1.0:
        return frames
    size = max(1, round(frames.shape[1] / rate))
    return F.interpolate(frames.unsqueeze(0), size=size, mode="linear", align_corners=False)[0]


def health_of(config: SynthesizerConfig, alignment: Tensor, tokens: list[int], symbols: Sequence[str]) -> Health:
    """Planned durations cannot skip; symbols that take no time are not missed."""
    if config.model == "parallel":
        said = alignment.any(dim=0).tolist()
        wanted = [symbols[t] not in (SILENCE, END, WORD_BOUNDARY, *PAUSES) for t in tokens]
        covered = [a for a, w in zip(said, wanted, strict=True) if w]
        return Health(sum(covered) / max(1, len(covered)), 1.0, 0, 0, len(alignment))
    return health(alignment)
