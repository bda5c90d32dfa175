"""Pictures of a take, drawn when they are asked for: PNG bytes, in the colors of the page's theme."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cloning.cloner import VoiceCloner
from encoder.plots import plot_embeddings
from utils import plots
from utils.audio import io as audio
from utils.audio.io import Waveform
from utils.audio.mel import MelConfig, mel_filterbank, mel_spectrogram
from utils.errors import reported
from web.takes import Take

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)
NAMES = {  # in the order in which they are shown, two side by side
    "speech": "Both recordings: which frequencies are how loud, and when. The same colors are the same loudness.",
    "embeddings": "The voice in numbers: what the speaker encoder hears. Alike voices have alike patterns.",
    "alignment": "Which sound of the text is spoken when: an even staircase is good.",
}
HZ = (250, 500, 1000, 2000, 4000)
RANGE_DB = 70.0  # below the loudest, that is told apart
LONGEST_SECONDS = 30.0  # of a recording that is drawn: more cannot be read
WORDS_WIDTH = 34  # words that fit below an axis
WIDTH = 6.2  # inches: at 390 px the letters are still 9 px high


def draw(name: str, take: Take, cloner: VoiceCloner, dark: bool) -> bytes | None:
    """One of NAMES; None for one that cannot be drawn: the speech is worth more than its pictures."""
    makers: dict[str, Callable[[], Figure]] = {
        "speech": lambda: _speech(take, cloner.synthesizer.mel),
        "embeddings": lambda: _embeddings(take, cloner),
        "alignment": lambda: _alignment(take, cloner.synthesizer.mel.frame_seconds),
    }
    with reported(lambda _: log.exception("the picture of the %s could not be drawn", name)), _colors(dark):
        buffer = io.BytesIO()
        plots.render(makers[name](), buffer, transparent=True)
        return buffer.getvalue()
    return None


def available(take: Take) -> list[str]:
    """The pictures that there are of this take."""
    drawn = [name for name in NAMES if name != "alignment" or (take.sketch and take.sketch.alignments)]
    return [name for name in drawn if name != "embeddings" or not take.script]


def _colors(dark: bool) -> AbstractContextManager:
    from matplotlib import rc_context

    ink = "#e8ecea" if dark else "#22302f"
    names = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "axes.titlecolor")
    settings: dict[Any, Any] = {"font.size": 10, "axes.titlesize": 10} | dict.fromkeys(names, ink)
    return rc_context(settings)


def _speech(take: Take, config: MelConfig) -> Figure:
    """Reference above, clone below, on one scale of seconds and one of loudness."""
    voice = take.sketch.voice if take.sketch else None
    clone = audio.read(take.bytes, sample_rate=None)
    rows = [(f"reference: {take.voice}", voice), ("clone", clone)] if voice else [("clone", clone)]
    mels = [(title, _decibels(wav, config)) for title, wav in rows]
    loudest = max(float(mel.max()) for _, mel in mels)
    longest = max(mel.shape[1] for _, mel in mels) * config.frame_seconds
    figure, axes = plots.new_figure(WIDTH, 2.1 * len(mels) + 0.9, rows=len(mels), sharex=True)
    for axis, (title, mel) in zip(axes[:, 0], mels, strict=True):
        image = axis.imshow(
            mel - loudest, origin="lower", aspect="auto", cmap="magma", vmin=-RANGE_DB, vmax=0,
            extent=(0, mel.shape[1] * config.frame_seconds, -0.5, config.n_mels - 0.5),
        )  # fmt: skip
        axis.set(title=plots.plain(title), ylabel="Hz", xlim=(0, longest))
        hz = [f for f in HZ if config.fmin < f < config.fmax]
        axis.set_yticks(_channels(config, hz), [f"{f:,}" for f in hz])
    axes[-1, 0].set_xlabel("seconds")
    _words(axes[-1, 0], take, longest)
    figure.colorbar(image, ax=list(axes[:, 0]), shrink=0.7, label="dB below the loudest")
    return figure


def _decibels(wav: Waveform, config: MelConfig) -> np.ndarray:
    """Mel (M, F) in dB, of the beginning, at the same peak for all."""
    samples = audio.resample(wav.samples, wav.sample_rate, config.sample_rate)
    samples = audio.peak_normalize(samples[: round(LONGEST_SECONDS * config.sample_rate)])
    mel = mel_spectrogram(torch.from_numpy(np.ascontiguousarray(samples)), config).numpy()
    if config.scale == "db":
        return (mel - config.max_abs) / (2 * config.max_abs) * -config.min_db
    return 20 / config.power * np.log10(np.maximum(mel, 1e-10))


def _channels(config: MelConfig, hz: list[int]) -> np.ndarray:
    """Where frequencies lie among the channels, of which each has its center at the peak of its filter."""
    centers = mel_filterbank(config).argmax(dim=1).numpy() * config.sample_rate / config.n_fft
    return np.interp(hz, centers, np.arange(config.n_mels))


def _words(axis: Axes, take: Take, longest: float) -> None:
    """The words above the lower edge, where they fit."""
    words = [word for word in take.words if word[2] <= longest]
    if not words or len(words) != len(take.words) or sum(len(word) + 1 for word, *_ in words) > 2.2 * WORDS_WIDTH:
        return
    for word, start, stop in words:
        axis.axvline(start, color="white", linewidth=0.4, alpha=0.6)
        middle = (start + stop) / 2
        axis.text(middle, 2, plots.plain(word), color="white", fontsize=8, ha="center", va="bottom", rotation=60)


def _embeddings(take: Take, cloner: VoiceCloner) -> Figure:
    clone = audio.read(take.bytes)
    heard = cloner.encoder.preprocess(clone)
    rows = {"clone": cloner.encoder.embed(heard if len(heard) else clone)}
    if take.sketch and take.sketch.voice:
        rows = {"reference": cloner.embed_reference(take.sketch.voice), **rows}
    return plot_embeddings(list(rows.values()), list(rows))


def _alignment(take: Take, frame_seconds: float) -> Figure:
    assert take.sketch
    figure, axes = plots.new_figure(WIDTH, 3.4)
    axis, frame, token = axes[0, 0], 0, 0
    for alignment in take.sketch.alignments:
        frames, tokens = alignment.shape
        start, stop = frame * frame_seconds, (frame + frames) * frame_seconds
        axis.imshow(
            alignment.T, origin="lower", aspect="auto", cmap="viridis", interpolation="none", vmin=0, vmax=255,
            extent=(start, stop, token, token + tokens),
        )  # fmt: skip
        frame, token = frame + frames, token + tokens
    axis.set(xlabel="seconds of speech, pauses between sentences left out", ylabel="sound (phone) number")
    axis.set(xlim=(0, frame * frame_seconds), ylim=(0, token), facecolor="#440154")
    return figure
