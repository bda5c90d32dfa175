"""The corpora that are known by the names of their files, and how each tells speaker, text and emotion.

A layout is a pattern for the end of a path, so that it is recognized wherever the scan starts: at a corpus, at a part
of it (`test-clean`), or at a folder that holds several. A reader returns what it found, or, as a string, why the file
is not taken. Texts are given as the corpus has them (LibriSpeech in capitals); normalizing is the synthesizer's job.

Emotions: neutral, happy, sad, angry, surprised, fear. What the actors meant by "calm", "disgust", "amused" and "sleepy"
is none of these, and a wrong label costs more than a missing one: such clips are taken with `emotion=None`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import utils.data.corpora.transcripts as transcripts
from utils.data.corpora.transcripts import Transcripts, one_line

EMOTIONS = ("neutral", "happy", "sad", "angry", "surprised", "fear")
_EMOTION_NAMES = {
    "neutral": "neutral", "neu": "neutral",
    "happy": "happy", "hap": "happy",
    "sad": "sad",
    "angry": "angry", "anger": "angry", "ang": "angry",
    "surprised": "surprised", "surprise": "surprised", "ps": "surprised",
    "fear": "fear", "fearful": "fear", "fea": "fear",
}  # fmt: skip
# Corpora in which every clip is acted: one without a label is none of the six. All others are read or spoken plainly.
# What each calls the labels, for the report of a scan.
ACTED = {
    "cremad": ("NEU", "HAP", "SAD", "ANG", "FEA", "DIS"),
    "ravdess": ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"),
    "esd": ("Neutral", "Happy", "Sad", "Angry", "Surprise"),
    "emovdb": ("Neutral", "Amused", "Angry", "Disgusted", "Sleepy"),
    "tess": ("neutral", "happy", "sad", "angry", "ps", "fear", "disgust"),
}
_RAVDESS_EMOTIONS = (None, "neutral", None, "happy", "sad", "angry", "fear", None, "surprised")
_RAVDESS_TEXTS = (None, "Kids are talking by the door.", "Dogs are sitting by the door.")
_CREMAD_TEXTS = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}


def emotion_of(speaker: str, label: str | None) -> str | None:
    """The emotion to learn from a clip: its label; without one, neutral unless its corpus is acted."""
    if label is not None:
        return label
    return None if speaker.partition("-")[0] in ACTED else "neutral"


def describe_labels(corpus: str) -> str:
    """How an acted corpus's labels are read: "angry <- ANG; ... ; none of the six: DIS"; "" for other corpora."""
    read: dict[str | None, list[str]] = {}
    for name in ACTED.get(corpus, ()):
        read.setdefault(_EMOTION_NAMES.get(name.lower()), []).append(name)
    parts = [f"{emotion} <- {', '.join(read[emotion])}" for emotion in EMOTIONS if emotion in read]
    return "; ".join(parts + ([f"none of the six: {', '.join(read[None])}"] if None in read else []))


class ParsedPath(NamedTuple):
    """A clip of a known layout; `name` is unique in the corpus, `speaker` is the name within it."""

    name: str
    speaker: str
    text: str | None = None
    emotion: str | None = None
    corpus: str | None = None  # where it is not the layout's own name


class File(NamedTuple):
    """An audio file and what lies around it."""

    path: Path
    siblings: frozenset[str]  # names of all files in its folder
    transcripts: Transcripts

    @property
    def root(self) -> Path:  # of corpora whose audio is two folders down: WAVE/<speaker>/x.wav, wav48/<speaker>/x.wav
        return self.path.parents[2]

    def text_beside(self, *suffixes: str) -> str | None:
        """The text of the first file of the same stem with one of `suffixes` that is there and not empty.

        Suffixes may also be in capitals, as in 001.TXT.
        """
        for suffix in suffixes:
            for name in (self.path.stem + suffix, self.path.stem + suffix.upper(), self.path.stem + suffix.title()):
                if name in self.siblings and (text := one_line(self.transcripts.read(self.path.with_name(name)))):
                    return text
        return None


class Layout(NamedTuple):
    """`pattern` is matched against the last folders and the stem, joined by "/"."""

    corpus: str
    pattern: re.Pattern[str]
    read: Callable[[re.Match[str], File], ParsedPath | str]


def recognize(file: File, likely: Layout | None = None) -> tuple[Layout, ParsedPath | str] | None:
    """The layout of `file` and what it tells, or None; `likely` is tried first."""
    parts = file.path.parts
    tail = "/".join((*parts[-5:-1], file.path.stem))
    for layout in LAYOUTS if likely is None else (likely, *LAYOUTS):
        if match := layout.pattern.search(tail):
            return layout, layout.read(match, file)
    return None


def _librispeech(match: re.Match[str], file: File) -> ParsedPath:
    index = file.path.with_name(f"{match['speaker']}-{match['chapter']}.trans.txt")
    texts = file.transcripts.table([index], transcripts.first_word_is_name)
    return ParsedPath(match["stem"], match["speaker"], texts.get(match["stem"]))


def _libritts(match: re.Match[str], file: File) -> ParsedPath:
    # the readers' ids are those of LibriSpeech: the same person keeps one name
    return ParsedPath(match["stem"], match["speaker"], file.text_beside(".normalized.txt", ".original.txt"))


def _vctk(match: re.Match[str], file: File) -> ParsedPath | str:
    first = file.path.name.replace("_mic2", "_mic1")
    if match["microphone"] == "2" and first in file.siblings:
        return f"second microphone: {first} is taken"
    path = file.root / "txt" / match["speaker"] / f"{match['stem']}.txt"
    text = one_line(file.transcripts.read(path)) if path.is_file() else file.text_beside(".txt")
    return ParsedPath(match["stem"], match["speaker"], text)


def _voxceleb(match: re.Match[str], file: File) -> ParsedPath:
    return ParsedPath(f"{match['speaker']}/{match['video']}/{match['clip']}", match["speaker"])


def _common_voice(match: re.Match[str], file: File) -> ParsedPath | str:
    root = file.path.parents[1]
    # the checked sentences; a cut-down copy may only have the splits, which are parts of them
    names = ("validated",) if (root / "validated.tsv").is_file() else ("train", "dev", "test")
    rows = file.transcripts.table([root / f"{name}.tsv" for name in names], transcripts.common_voice)
    if not rows:
        return "no validated.tsv, train.tsv, dev.tsv or test.tsv beside clips/: the speaker is unknown"
    if match["stem"] not in rows:
        return f"not in {names[0]}.tsv"
    client, _, sentence = rows[match["stem"]].partition("\t")
    return ParsedPath(match["stem"], client[:16], one_line(sentence))


def _cremad(match: re.Match[str], file: File) -> ParsedPath:
    emotion = _EMOTION_NAMES.get(match["emotion"].lower())
    return ParsedPath(match["stem"], match["speaker"], _CREMAD_TEXTS.get(match["sentence"]), emotion)


def _ravdess(match: re.Match[str], file: File) -> ParsedPath | str:
    if match["channel"] == "02":
        return "sung, not spoken"
    emotion = _RAVDESS_EMOTIONS[int(match["emotion"])]
    return ParsedPath(match["stem"], match["speaker"], _RAVDESS_TEXTS[int(match["statement"])], emotion)


def _esd(match: re.Match[str], file: File) -> ParsedPath:
    folder = next(p for p in file.path.parents if p.name == match["speaker"])
    texts = file.transcripts.table([folder / f"{match['speaker']}.txt"], transcripts.esd)
    emotion = _EMOTION_NAMES.get(match["emotion"].lower())
    return ParsedPath(match["stem"], match["speaker"], texts.get(match["stem"]), emotion)


def _tess(match: re.Match[str], file: File) -> ParsedPath:
    speaker = {"OA": "OAF"}.get(match["speaker"], match["speaker"])  # one file of the corpus lacks the F
    return ParsedPath(match["stem"], speaker, f"Say the word {match['word']}.", _EMOTION_NAMES.get(match["emotion"]))


def _emovdb(match: re.Match[str], file: File) -> ParsedPath:
    emotion, text = _EMOTION_NAMES.get(match["emotion"].lower()), file.text_beside(".txt", ".lab")
    return ParsedPath(f"{match['speaker']}/{match['stem']}", match["speaker"], text, emotion)


def _speechocean(match: re.Match[str], file: File) -> ParsedPath:
    text = file.text_beside(".txt")
    if text is None:
        kaldi = [file.root / part / "text" for part in ("train", "test")]
        text = file.transcripts.table(kaldi, transcripts.first_word_is_name).get(match["stem"])
    return ParsedPath(match["stem"], match["speaker"], text)


def _an4(match: re.Match[str], file: File) -> ParsedPath:
    text = file.text_beside(".txt")
    if text is None:
        # wav/an4_clstk/fash/an251-fash-b.sph, etc/an4_train.transcription
        indexes = [p / "etc" / f"an4_{part}.transcription" for p in file.path.parents[:4] for part in ("train", "test")]
        text = file.transcripts.table(indexes, transcripts.an4).get(match["stem"])
    return ParsedPath(match["stem"], match["speaker"], text)


def _speech_commands(match: re.Match[str], file: File) -> ParsedPath:
    return ParsedPath(f"{match['word']}/{match['stem']}", match["speaker"], match["word"])


def _speech_commands_joined(match: re.Match[str], file: File) -> ParsedPath:
    return ParsedPath(f"{match['speaker']}/{match['stem']}", match["speaker"], file.text_beside(".txt"))


def _ljspeech(match: re.Match[str], file: File) -> ParsedPath:
    texts = file.transcripts.table([file.path.parents[1] / "metadata.csv"], transcripts.ljspeech)
    text = texts.get(match["stem"]) or file.text_beside(".txt")
    return ParsedPath(match["stem"], "lj", text)


def _refuse(reason: str) -> Callable[[re.Match[str], File], str]:
    return lambda match, file: reason


def _layout(corpus: str, pattern: str, read: Callable[[re.Match[str], File], ParsedPath | str]) -> Layout:
    return Layout(corpus, re.compile(f"(?:^|/){pattern}$"), read)


# The first that matches counts; no two of them match the same path.
LAYOUTS = (
    _layout("librispeech", r"(?P<speaker>\d+)/(?P<chapter>\d+)/(?P<stem>(?P=speaker)-(?P=chapter)-\d+)", _librispeech),
    _layout("libritts", r"(?P<speaker>\d+)/(?P<chapter>\d+)/(?P<stem>(?P=speaker)_(?P=chapter)_\d+_\d+)", _libritts),
    _layout(
        "vctk",
        r"wav\d+[^/]*/(?P<speaker>p\d+|s5)/(?P<stem>(?P=speaker)_\d+)(?:_mic(?P<microphone>[12]))?",
        _vctk,
    ),
    _layout("voxceleb", r"(?P<speaker>id\d{5})/(?P<video>[\w-]{11})/(?P<clip>\d{5})", _voxceleb),
    _layout("commonvoice", r"clips/(?P<stem>common_voice_[^/]+|[0-9a-f]{128})", _common_voice),
    _layout(
        "cremad",
        r"(?P<stem>(?P<speaker>1\d{3})_(?P<sentence>[A-Z]{3})_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(?:XX|X|LO|MD|HI))",
        _cremad,
    ),
    _layout(
        "ravdess",
        r"(?P<stem>0[123]-(?P<channel>0[12])-(?P<emotion>0[1-8])-0[12]-(?P<statement>0[12])-0[12]-(?P<speaker>\d\d))",
        _ravdess,
    ),
    _layout(
        "esd",
        r"(?P<speaker>00\d\d)/(?P<emotion>Angry|Happy|Neutral|Sad|Surprise)(?:/(?:train|test|evaluation))?"
        r"/(?P<stem>(?P=speaker)_\d{6})",
        _esd,
    ),
    _layout(
        "tess",
        r"(?P<stem>(?P<speaker>OAF|YAF|OA)_(?P<word>[a-z]+)_(?P<emotion>angry|disgust|fear|happy|neutral|ps|sad))",
        _tess,
    ),
    _layout(
        "emovdb",
        r"(?P<speaker>bea|jenie|josh|sam)[_/](?P<emotion>[A-Za-z]+)/(?P<stem>[A-Za-z]+_\d+-\d+_\d{4})",
        _emovdb,
    ),
    _layout("speechocean762", r"WAVE/(?:SPEAKER)?(?P<speaker>\d{4})/(?P<stem>\d{9})", _speechocean),
    _layout("an4", r"(?P<stem>(?:an|cen)\d+-(?P<speaker>[a-z]{4}\d?)-b)", _an4),
    _layout("speech_commands", r"(?P<word>[a-z]+)/(?P<stem>(?P<speaker>[0-9a-f]{8})_nohash_\d+)", _speech_commands),
    _layout("speech_commands", r"gsc[:_]?(?P<speaker>[0-9a-f]{8})/(?P<stem>[^/]+)", _speech_commands_joined),
    _layout("ljspeech", r"(?P<stem>LJ\d{3}-\d{4})", _ljspeech),
    _layout("noise", r"_background_noise_/[^/]+", _refuse("background noise, no speech")),
    _layout("noise", r"\d-\d+-[A-Z](?:-\d+)?", _refuse("environmental sound (ESC), no speech")),
)
