"""How often is a note on a reference right, and how often does it come of clean speech?

    python benchmarks/reference_notes.py CORPUS [--set-aside] [--music TRACKS ...] [--noise CLIPS ...] [--limit 100]

CORPUS is a part of LibriSpeech, or another folder of speakers' folders. Clean clips are those of 4 to 20 s; with
--set-aside of the readers in evaluation/lists/set_aside.txt only, else of all others (on which the thresholds in
utils.audio.quality were chosen). Every kind of bad reference is made of them. For each: how many got the note that it
should, and the mean cosine of the embedding with that of the clean clip: what the fault costs.
"""

from __future__ import annotations

import argparse
import fnmatch
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import soundfile  # noqa: E402

from cloning.references import Assessor, ReferenceClip  # noqa: E402
from encoder.inference import SpeakerEncoder  # noqa: E402
from utils.audio.io import Waveform, normalize_volume, read, resample  # noqa: E402
from utils.audio.vad import trim_silence  # noqa: E402
from utils.data.selection import SET_ASIDE, read_set_aside  # noqa: E402
from utils.errors import CloningError  # noqa: E402
from utils.scripts import exit_code  # noqa: E402
from utils.weights.find import DEFAULT_MODELS  # noqa: E402

RATE = 16_000
NO_VOICE, BACKGROUND, CLIPPED, NARROW, PEOPLE = "no voice", "noise or music", "clipped", "above 4 kHz", "people speak"
QUIET, LITTLE = "very quiet", "are voice"


def clips_of(folder: Path, set_aside: bool, limit: int) -> list[tuple[str, np.ndarray]]:
    """(speaker, samples), in an order that mixes the speakers."""
    names = [name.removeprefix("librispeech-") for name in read_set_aside(SET_ASIDE)]
    found: list[tuple[str, np.ndarray]] = []
    paths = sorted(p for p in folder.rglob("*") if p.suffix in (".opus", ".flac", ".wav"))
    for path in np.random.default_rng(0).permutation(np.array(paths, dtype=object)):
        speaker = path.relative_to(folder).parts[0]
        if any(fnmatch.fnmatch(speaker, name) for name in names) == set_aside:
            wav = read(path)
            if 4 <= wav.seconds <= 20:
                found.append((speaker, wav.samples))
        if len(found) == limit:
            break
    if not found:
        raise CloningError(f"{folder}: no clips of 4 to 20 s there")
    return found


def over(speech: np.ndarray, sound: np.ndarray, decibels: float) -> np.ndarray:
    """Sound under speech, so many dB below it."""
    sound = np.resize(sound, len(speech))
    gain = np.sqrt(np.mean(np.square(speech)) / np.mean(np.square(sound))) * 10 ** (-decibels / 20)
    return (speech + gain * sound).astype(np.float32)


def clipped(speech: np.ndarray, share: float) -> np.ndarray:
    """So large a share of the samples cut off, at full scale."""
    limit = np.quantile(np.abs(speech), 1 - share)
    return np.clip(speech, -limit, limit) / limit


def mp3(speech: np.ndarray) -> np.ndarray:
    """Encoded as MP3 and decoded."""
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.8 * speech / np.abs(speech).max(), RATE, format="MP3", subtype="MPEG_LAYER_III")
    return read(buffer.getvalue()).samples


def telephone(speech: np.ndarray) -> np.ndarray:
    """300 to 3,400 Hz, mu-law at 8 kHz."""
    from scipy.signal import butter, sosfilt

    narrow = resample(sosfilt(butter(4, (300, 3400), "band", fs=RATE, output="sos"), speech), RATE, 8000)
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.9 * narrow / np.abs(narrow).max(), 8000, format="WAV", subtype="ULAW")
    return read(buffer.getvalue()).samples


def chord(seconds: float, root: float = 220.0) -> np.ndarray:
    """A sustained major chord with four harmonics a tone: (T,)."""
    t = np.arange(round(seconds * RATE)) / RATE
    tones = [root * ratio * h for ratio in (1, 5 / 4, 3 / 2) for h in (1, 2, 3, 4)]
    return sum(np.sin(2 * np.pi * f * t) * root / f for f in tones).astype(np.float32)


def tune() -> np.ndarray:
    """20 s of chords, one every half second, that fade as a piano's do."""
    roots = 220 * 2 ** (np.array([0, 5, 7, 0, 9, 5, 7, 12]) / 12)
    fade = np.exp(-np.arange(RATE // 2) / RATE * 3)
    return np.concatenate([chord(0.5, roots[i % 8]) * fade for i in range(40)]).astype(np.float32)


def kinds(
    clips: Sequence[tuple[str, np.ndarray]], music: Sequence[np.ndarray], noises: Sequence[np.ndarray]
) -> Iterator[tuple[str, Sequence[str], Callable[[int], np.ndarray]]]:
    """Name, the notes of which one is right, and what makes the example of clip i."""
    white = np.random.default_rng(1).normal(0, 0.1, 20 * RATE).astype(np.float32)
    speech = [samples for _, samples in clips]

    def two(i: int) -> np.ndarray:
        other = next(s for name, s in [*clips[i + 1 :], *clips] if name != clips[i][0])
        a, b = (normalize_volume(s, -25, increase_only=False) for s in (speech[i], other))
        return np.concatenate([a[: 3 * RATE], b[: 3 * RATE], a[3 * RATE : 6 * RATE], b[3 * RATE : 6 * RATE]])

    yield "white noise alone", [NO_VOICE], lambda i: white[: len(speech[i])]
    yield "a chord alone", [NO_VOICE], lambda i: chord(len(speech[i]) / RATE, 110 * 2 ** (i % 24 / 12)) * 0.1
    yield "a tune alone", [NO_VOICE, BACKGROUND], lambda i: np.resize(tune(), len(speech[i])) * 0.1
    for level in (20, 10, 0):
        yield f"white noise at {level} dB", [BACKGROUND, NO_VOICE], lambda i, d=level: over(speech[i], white, d)
    for level in (20, 10, 0):
        yield f"a tune at {level} dB", [BACKGROUND, NO_VOICE], lambda i, d=level: over(speech[i], tune(), d)
    for name, sounds in (("music", music), ("noise", noises)):
        for level in (20, 10, 0) if sounds else ():
            yield (
                f"{name} given, at {level} dB",
                [BACKGROUND, NO_VOICE],
                (lambda i, s=sounds, d=level: over(speech[i], s[i % len(s)], d)),
            )
        if sounds:
            yield (
                f"{name} given, alone",
                [BACKGROUND, NO_VOICE],
                (lambda i, s=sounds: np.resize(s[i % len(s)], len(speech[i])) * 0.2),
            )
    for share in (0.003, 0.01, 0.03, 0.1):
        yield f"clipped, {share:.1%} of the samples", [CLIPPED], lambda i, s=share: clipped(speech[i], s)
    for share in (0.01, 0.03, 0.1):
        yield f"clipped, {share:.1%}, then MP3", [CLIPPED], lambda i, s=share: mp3(clipped(speech[i], s))
    yield "telephone", [NARROW], lambda i: telephone(speech[i])
    yield "telephone, then MP3", [NARROW], lambda i: mp3(telephone(speech[i]))
    yield "two people in turns of 3 s", [PEOPLE], two
    yield "at -65 dBFS", [QUIET], lambda i: normalize_volume(speech[i], -65, increase_only=False)
    yield (
        "a tenth of it",
        [LITTLE, "s of voice"],
        (lambda i: np.concatenate([speech[i], np.random.default_rng(i).normal(0, 1e-5, 9 * len(speech[i]))])),
    )


def run(args: argparse.Namespace) -> None:
    """Count the notes of each kind of damage."""
    encoder = SpeakerEncoder.load(DEFAULT_MODELS / "encoder.safetensors")
    assessor = Assessor(encoder, [DEFAULT_MODELS])
    clips = clips_of(args.corpus, args.set_aside, args.limit)
    tracks, noises = ([read(p).samples[: 60 * RATE] for p in paths] for paths in (args.music, args.noise))

    def notes(samples: np.ndarray) -> list[str]:
        return assessor.notes([ReferenceClip("x", Waveform(samples, RATE))])

    def embedding(samples: np.ndarray) -> np.ndarray | None:
        voice = trim_silence(normalize_volume(samples))
        return encoder.embed_utterance(Waveform(voice, RATE)) if len(voice) else None

    clean = [embedding(samples) for _, samples in clips]
    got = [notes(samples) for _, samples in clips]
    print(f"clean: {len(clips)} clips of {len({s for s, _ in clips})} speakers, {sum(map(bool, got))} with a note")
    for phrase in (NO_VOICE, BACKGROUND, CLIPPED, NARROW, PEOPLE, QUIET, LITTLE, "s of voice"):
        print(f"  {phrase:40}{sum(any(phrase in n for n in found) for found in got):4d} false alarms")
    for name, right, make in kinds(clips[: args.made], tracks, noises):
        made = [make(i) for i in range(min(args.made, len(clips)))]
        hits = sum(any(phrase in note for note in notes(samples) for phrase in right) for samples in made)
        pairs = [(a, embedding(samples)) for a, samples in zip(clean, made, strict=False)]
        cosines = [float(a @ b) for a, b in pairs if b is not None]
        print(f"{name:42}{hits:4d} of {len(made)} noted; cosine to the clean voice {np.mean(cosines or [np.nan]):.2f}")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--set-aside", action="store_true", help="readers in evaluation/lists/set_aside.txt only")
    parser.add_argument("--limit", type=int, default=100, help="clean clips (default: 100)")
    parser.add_argument("--made", type=int, default=50, help="examples of each kind (default: 50)")
    parser.add_argument("--music", type=Path, nargs="*", default=[], help="pieces of music")
    parser.add_argument("--noise", type=Path, nargs="*", default=[], help="recordings of noise")
    return parser


if __name__ == "__main__":
    args = build_parser().parse_args()
    sys.exit(exit_code(lambda: run(args)))
