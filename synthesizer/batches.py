"""The batches that networks learn from, as the data part makes them and `utils.training` moves and divides them.

They are dictionaries because the training loop takes rows of each entry for each process. B items, N tokens.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

from torch import Tensor


class TextBatch(TypedDict):
    """What every batch says of texts and voices."""

    tokens: Tensor  # (B, N) ids
    token_lengths: Tensor  # (B,)
    speaker: Tensor  # (B, D) embeddings of norm 1
    seeds: Tensor  # (B,) of dropout
    emotion: NotRequired[Tensor]  # (B,) places in the list of labels, for a network with emotions


class AutoregressiveBatch(TextBatch):
    """For Tacotron and the Transformer: whole utterances or stretches of them."""

    mel: Tensor  # (B, M, F), F a multiple of the reduction
    mel_lengths: Tensor  # (B,) in frames
    targets: Tensor  # (B, S) the token said in the middle of each decoder step, -1 where that is not known
    durations: NotRequired[Tensor]  # (B, N) in frames, in sets that have them
    reduction: NotRequired[int]  # frames of a decoder step, where training changes it


class ParallelBatch(TextBatch):
    """For the parallel network: windows of W frames."""

    marks: Tensor  # (B, N) ids of the marks at which clauses end
    durations: Tensor  # (B, N) in frames
    prosody: Tensor  # (B, N, 3) energy, pitch, voicing
    silent: Tensor  # (B, N) whether a token is no phone
    embed: Tensor  # (B, D) the speaker embedding that a drawn mel should have
    voice_statistics: Tensor  # (B, 3) pitch and spread (`utils.voice`), log of the frames that a phone takes
    prompt: Tensor  # (B, M, R) frames of another utterance of the speaker
    prompt_lengths: Tensor  # (B,) 0 for none
    window_start: Tensor  # (B,)
    window_lengths: Tensor  # (B,)
    mel: Tensor  # (B, M, W) of the window
    bands: Tensor  # (B, M) the mel channels that the recording has
    noise: NotRequired[Tensor]  # (B, W, M), where the flow learns
    time: NotRequired[Tensor]  # (B,) 0 .. 1, of the flow
    draw: NotRequired[Tensor]  # (B, W, M) noise, where the flow draws a mel as at inference
    paired: NotRequired[Tensor]  # (B,) whether the text was spoken by this voice, where voices are exchanged
