"""Talks as they are recorded in life, put together from clips of single speakers: rooms, telephones, noise, short
turns, backchannels and overlap; so that who speaks when is known exactly.

Speakers are parted into three lists that share nobody, nor a noise: `calibrate` to train and calibrate on, `choose` to
choose settings by, `test` to report. Those of `choose` and `test` are voices that the default encoder did not learn
from (Common Voice, VCTK, LibriSpeech dev-clean). Word times say where there is speech. Rooms need pyroomacoustics.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.signal import butter, oaconvolve, sosfiltfilt

from diarization.turns import Turn, join
from evaluation.lists.conversations import LEVEL_DBFS, PAUSE, RATE, REFERENCE_SECONDS, Conversation
from utils.audio.io import Waveform, normalize_volume, read
from utils.data.corpora import Clip
from utils.data.selection import Splits
from utils.errors import missing_package

Part = Literal["calibrate", "choose", "test"]
PARTS: tuple[Part, ...] = ("calibrate", "choose", "test")
SEEDS = {"calibrate": 100_000, "choose": 200_000, "test": 300_000}
TALKS = 60  # of a list
LENGTHS = ((0.55, 20.0, 60.0), (0.3, 60.0, 90.0), (0.1, 90.0, 240.0), (0.05, 300.0, 600.0))  # share, seconds
VOICES = (0.15, 0.35, 0.25, 0.15, 0.1)  # share of talks with one voice, two, ...
MOST_VOICES = ((30.0, 3), (60.0, 4), (np.inf, 5))  # of talks up to so many seconds
CHANNELS = (("close", 0.2), ("telephone", 0.3), ("near", 0.25), ("far", 0.25))
NOISE_DB = (5.0, 20.0)  # speech over noise
OVERLAPS = (0.1, 0.3)  # share of the speech in which two speak
TURN_SECONDS = (0.5, 5.0)
BACKCHANNEL_SECONDS = 0.7
BACKCHANNELS = 0.4  # of the overlaps; the others are turns that begin early
LONG_PAUSE = 0.08  # probability of one of 1 to 4 s after a turn
LEVEL_SPREAD_DB = 3.0  # standard deviation between speakers
CONTINUOUS = ("Rain", "Sea_waves", "Helicopter", "Fire_crackling", "Chainsaw", "Clock_tick")  # of ESC-10


@dataclass(frozen=True)
class TalkRecipe:
    """What a talk is made from; `overlap` is a share of the speech, `snr` in dB."""

    name: str
    speakers: int
    seconds: float
    channel: str
    snr: float
    overlap: float
    seed: int


@dataclass(frozen=True)
class SimulatedCast:
    """Who may speak in a list (clips by speaker), word times (K, 2) in seconds by clip, and noises."""

    clips: dict[str, list[Path]]
    word_times: Mapping[str, np.ndarray]
    noises: list[Path]


def cast_of(
    part: Part, clips: Iterable[Clip], word_times: Mapping[str, np.ndarray], set_aside: Iterable[str], noises: Path
) -> SimulatedCast:
    """The speakers of one list, whom `set_aside` does not name, with the noises below the folder `noises` (or none)."""
    splits = Splits(0.0, 0, set_aside)
    found: dict[str, list[Path]] = {}
    for clip in clips:
        if clip.path.stem in word_times and splits[clip.speaker] != "test" and part_of(clip) == part:
            found.setdefault(clip.speaker, []).append(clip.path)
    able = {who: sorted(paths) for who, paths in sorted(found.items()) if len(paths) >= 3}
    files = sorted(path for path in noises.glob("*/*") if path.is_file()) if noises.is_dir() else []
    return SimulatedCast(able, word_times, [path for i, path in enumerate(files) if PARTS[i % 3] == part])


def part_of(clip: Clip) -> Part:
    """The only list that this speaker may be used for."""
    unseen = clip.speaker.startswith(("CommonVoice-", "VCTK-")) or "dev-clean" in clip.path.parts
    if not unseen:
        return "calibrate"
    return PARTS[int(hashlib.sha256(clip.speaker.encode()).hexdigest(), 16) % 3]


def talk_recipes(part: Part, count: int = TALKS) -> list[TalkRecipe]:
    """The first `count` talks of a list: the same for everyone."""
    return [_recipe(SEEDS[part] + i) for i in range(count)]


def _recipe(seed: int) -> TalkRecipe:
    rng = np.random.default_rng(seed)
    _, low, high = LENGTHS[rng.choice(len(LENGTHS), p=[share for share, *_ in LENGTHS])]
    seconds = float(round(rng.uniform(low, high)))
    channel = str(rng.choice([name for name, _ in CHANNELS], p=[share for _, share in CHANNELS]))
    most = next(voices for longest, voices in MOST_VOICES if seconds <= longest)
    shares = np.array(VOICES[: min(most, 3) if channel == "telephone" else most])
    speakers = 1 + int(rng.choice(len(shares), p=shares / shares.sum()))
    snr, overlap = rng.uniform(*NOISE_DB), rng.uniform(*OVERLAPS)
    name = f"{seed}: {speakers} voices, {seconds:g} s, {channel}, {snr:.0f} dB"
    return TalkRecipe(name, speakers, seconds, channel, float(snr), float(overlap), seed)


def build_talk(recipe: TalkRecipe, cast: SimulatedCast) -> Conversation:
    """The same recipe and cast, the same talk, sample by sample; its references are as they were recorded.

    Raises CloningError without pyroomacoustics.
    """
    rng = np.random.default_rng([recipe.seed, 1])
    wanted = 2.0 + 1.2 * recipe.seconds / recipe.speakers
    able = [who for who, paths in cast.clips.items() if sum(map(_seconds, paths)) > wanted] or list(cast.clips)
    names = [str(who) for who in rng.choice(able, min(recipe.speakers, len(able)), replace=False)]
    queues, references = {}, {}
    for who in names:
        first, *rest = [cast.clips[who][i] for i in rng.permutation(len(cast.clips[who]))]
        wave = normalize_volume(read(first, sample_rate=RATE).samples, LEVEL_DBFS, increase_only=False)
        references[who] = Waveform(wave[: round(REFERENCE_SECONDS * RATE)], RATE)
        queues[who] = rest
    voices, turns = _timeline(recipe, cast, queues, rng)
    size = next(iter(voices.values())).size
    room = _room(recipe.channel, len(names), rng)
    mixed = np.zeros(size, np.float32)
    for wave, response in zip(voices.values(), room, strict=True):
        mixed += _through(wave * 10 ** (rng.normal(0, LEVEL_SPREAD_DB) / 20), response, recipe.channel)
    active = np.zeros(size, bool)
    for turn in turns:
        active[round(turn.start * RATE) : round(turn.stop * RATE)] = True
    level = np.sqrt(np.mean(mixed[active] ** 2))
    noise = _noise(cast.noises, size, rng)
    if recipe.channel == "telephone":
        noise = _telephone(noise)
    mixed = mixed + noise * (level / max(float(np.sqrt(np.mean(noise**2))), 1e-9)) * 10 ** (-recipe.snr / 20)
    mixed = normalize_volume(mixed.astype(np.float32), rng.uniform(-35, -20), increase_only=False)
    return Conversation(Waveform(np.clip(mixed, -1, 1), RATE), turns, references)


def _timeline(
    recipe: TalkRecipe, cast: SimulatedCast, queues: Mapping[str, Sequence[Path]], rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], list[Turn]]:
    """A track (T,) of each speaker, and the turns."""
    names = list(queues)
    pieces = {who: _Pieces(queue, cast.word_times, rng) for who, queue in queues.items()}
    tracks = {who: np.zeros(round((recipe.seconds + 12) * RATE), np.float32) for who in names}
    dominance = {who: rng.uniform(0.4, 1.0) for who in names}
    spoken, free = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)  # seconds; when a speaker is done
    turns: list[Turn] = []
    together = 0.0

    def say(who: str, at: float, longest: float) -> float:
        audio, spans = pieces[who](longest)
        first = round(at * RATE)
        tracks[who][first : first + len(audio)] += audio[: len(tracks[who]) - first]
        turns.extend(Turn(at + float(a), at + float(b), who) for a, b in spans)
        spoken[who] += len(audio) / RATE
        free[who] = at + len(audio) / RATE + 0.1
        return at + len(audio) / RATE

    end = now = float(rng.uniform(0.1, 2.0))
    speaker = names[0]
    while now < recipe.seconds:
        start, end = now, say(speaker, now, float(np.exp(rng.uniform(*np.log(TURN_SECONDS)))))
        others = [who for who in names if who != speaker]
        if not others:
            now = end + _gap(rng)
            continue
        behind = together < recipe.overlap * sum(spoken.values())
        if behind and end - start > 1.6 and rng.random() < BACKCHANNELS:
            who = str(rng.choice(others))
            at = float(rng.uniform(start + 0.3, end - 1.0))
            if free[who] < at:
                together += say(who, at, BACKCHANNEL_SECONDS) - at
            behind = False
        odds = np.array([dominance[who] / (2.0 + spoken[who]) for who in others])
        following = str(rng.choice(others, p=odds / odds.sum()))
        early = float(rng.uniform(0.2, max(0.25, min(1.5, 0.6 * (end - start))))) if behind else 0.0
        together += early
        now, speaker = max(end - early if behind else end + _gap(rng), free[following], start + 0.2), following
    size = round((max(free.values()) + rng.uniform(0.2, 2.0)) * RATE)
    return {who: track[:size] for who, track in tracks.items()}, sorted(turns)


def _gap(rng: np.random.Generator) -> float:
    return float(rng.uniform(1.0, 4.0) if rng.random() < LONG_PAUSE else rng.uniform(0.03, 0.9))


class _Pieces:
    """Runs of words of one speaker without end: called with the longest seconds, gives samples and spans from 0."""

    def __init__(self, queue: Sequence[Path], word_times: Mapping[str, np.ndarray], rng: np.random.Generator) -> None:
        self.queue, self.word_times, self.rng = list(queue), word_times, rng
        self.clip, self.word = -1, 0
        self._next_clip()

    def _next_clip(self) -> None:
        self.clip, self.word = (self.clip + 1) % len(self.queue), 0
        path = self.queue[self.clip]
        self.samples = normalize_volume(read(path, sample_rate=RATE).samples, LEVEL_DBFS, increase_only=False)
        self.words = self.word_times[path.stem]

    def __call__(self, longest: float) -> tuple[np.ndarray, np.ndarray]:
        if self.word >= len(self.words):
            self._next_clip()
        first = last = self.word
        while last + 1 < len(self.words) and self.words[last + 1, 1] - self.words[first, 0] <= longest:
            last += 1
        self.word = last + 1
        start, stop = self.words[first, 0], self.words[last, 1]
        audio = self.samples[round(start * RATE) : round(stop * RATE)].copy()
        fade = np.linspace(0, 1, min(160, len(audio)), dtype=np.float32)
        audio[: len(fade)] *= fade
        audio[len(audio) - len(fade) :] *= fade[::-1]
        return audio, join(self.words[first : last + 1] - start, PAUSE)


def _room(channel: str, speakers: int, rng: np.random.Generator) -> list[np.ndarray | None]:
    """Impulse response from each speaker to the one microphone, its direct sound at 0 and of amplitude 1."""
    if channel not in ("near", "far"):
        return [None] * speakers
    try:
        import pyroomacoustics
    except ImportError as error:
        raise missing_package("pyroomacoustics", "simulated rooms", "requirements/eval.txt") from error
    size = np.array([rng.uniform(3, 8), rng.uniform(3, 7), rng.uniform(2.4, 3.5)])
    reverberation = rng.uniform(0.2, 0.7)
    try:
        absorption, _ = pyroomacoustics.inverse_sabine(reverberation, size)
    except ValueError:  # such a room cannot be so dry
        absorption = 0.6
    room = pyroomacoustics.ShoeBox(
        size, fs=RATE, materials=pyroomacoustics.Material(min(absorption, 0.95)), max_order=14
    )
    microphone = size * rng.uniform(0.35, 0.65, 3) * [1, 1, 0] + [0, 0, rng.uniform(0.7, 1.2)]
    room.add_microphone(microphone)
    for _ in range(speakers):
        distance = rng.uniform(0.3, 1.0) if channel == "near" else rng.uniform(1.0, 3.0)
        angle = rng.uniform(0, 2 * np.pi)
        place = microphone + [distance * np.cos(angle), distance * np.sin(angle), rng.uniform(0.0, 0.6)]
        room.add_source(np.clip(place, 0.2, size - 0.2))
    room.compute_rir()
    return [_from_direct(np.asarray(response)) for response in room.rir[0]]


def _from_direct(response: np.ndarray) -> np.ndarray:
    """(T,) from just before its loudest sound, which is made 1."""
    peak = int(np.argmax(np.abs(response)))
    return (response[max(0, peak - 20) :] / np.abs(response[peak])).astype(np.float32)


def _through(wave: np.ndarray, response: np.ndarray | None, channel: str) -> np.ndarray:
    if response is not None:
        return oaconvolve(wave, response)[: len(wave)].astype(np.float32)
    return _telephone(wave) if channel == "telephone" else wave.astype(np.float32)


def _telephone(wave: np.ndarray) -> np.ndarray:
    """300 to 3400 Hz, and 8 bits by the mu law."""
    band = sosfiltfilt(butter(3, [300, 3400], "bandpass", fs=RATE, output="sos"), wave)
    peak = max(float(np.abs(band).max()), 1e-9)
    pressed = np.sign(band) * np.log1p(255 * np.abs(band) / peak) / np.log(256)
    stepped = np.round(pressed * 127) / 127
    return (peak * np.sign(stepped) * (256 ** np.abs(stepped) - 1) / 255).astype(np.float32)


def _noise(noises: Sequence[Path], size: int, rng: np.random.Generator) -> np.ndarray:
    """(T,): a hiss or hum of a random slope; in most talks a steady recorded noise, in some a few sounds besides."""
    slope = rng.uniform(0.0, 2.0)
    fast = next_fast_len(size, real=True)
    spectrum = rfft(rng.standard_normal(fast, np.float32))
    frequency = np.maximum(rfftfreq(fast, 1 / RATE), 50.0).astype(np.float32)
    total = _unit(irfft(spectrum * frequency ** (-slope / 2), fast)[:size])
    steady = [path for path in noises if path.parent.name in CONTINUOUS]
    if steady and rng.random() < 0.6:
        clip = _clip(steady[rng.integers(len(steady))])
        total += rng.uniform(0.3, 2.0) * _unit(np.resize(np.roll(clip, int(rng.integers(len(clip)))), size))
    sudden = [path for path in noises if path.parent.name not in CONTINUOUS]
    if sudden and rng.random() < 0.4:
        for _ in range(int(rng.integers(1, 4))):
            clip = _unit(_clip(sudden[rng.integers(len(sudden))])[: round(rng.uniform(0.5, 3.0) * RATE)])
            at = int(rng.integers(max(1, size - len(clip))))
            total[at : at + len(clip)] += rng.uniform(0.5, 3.0) * clip[: size - at]
    return total


def _unit(wave: np.ndarray) -> np.ndarray:
    return wave / max(float(np.sqrt(np.mean(wave**2))), 1e-9)


@lru_cache(maxsize=128)
def _clip(path: Path) -> np.ndarray:
    return read(path, sample_rate=RATE).samples


@cache
def _seconds(path: Path) -> float:
    import soundfile

    return float(soundfile.info(str(path)).duration)
