"""What the page of an evaluation says of its tables: a title in words, which way a measure is better, what it means."""

from __future__ import annotations

from typing import NamedTuple

TITLES = {
    "ablations": "Which settings train best?",
    "chain": "How good is cloned speech?",
    "diarization": "Who speaks when: how often is it right?",
    "emotion": "Is the emotion heard that was asked for?",
    "encoder": "Does the speaker encoder tell voices apart?",
    "speed": "How fast is each stage?",
    "vocoder": "How well does a vocoder say again what was recorded?",
    "watermark": "Is the watermark found, and only where it is?",
}
UP, DOWN = 1, -1


class Measure(NamedTuple):
    """`better`: UP, DOWN, or 0 where neither is."""

    better: int
    meaning: str


MEASURES = {
    "WER %": Measure(DOWN, "words that a speech recognizer gets wrong, of all words"),
    "CER %": Measure(DOWN, "letters that a speech recognizer gets wrong, of all letters"),
    "DistillMOS": Measure(UP, "naturalness from 1 to 5, guessed by a network that learned from listeners"),
    "DNSMOS": Measure(UP, "cleanness from 1 to 5, guessed by a network that learned from listeners"),
    "similarity": Measure(UP, "cosine with the voice's embedding; 1 is the same"),
    "similarity, 2nd judge": Measure(UP, "the same by another encoder, which the synthesizer never met"),
    "to others": Measure(DOWN, "the same cosine with the voices of other speakers"),
    "to others, 2nd judge": Measure(DOWN, "the same by the second judge"),
    "right voice %": Measure(UP, "clones that are nearer to their own speaker than to all others"),
    "right voice %, 2nd judge": Measure(UP, "the same by the second judge"),
    "way to the voice %": Measure(UP, "0: as like as other speakers; 100: as like as the speaker's own recordings"),
    "by the 2nd judge %": Measure(UP, "the same by the second judge"),
    "mel dB, aligned": Measure(DOWN, "distance of the spectrum to a recording of the same words, once aligned in time"),
    "F0 off, semitones": Measure(DOWN, "how far the middle pitch is from the speaker's"),
    "pace off %, same sentence": Measure(DOWN, "how far the length is from the recording's"),
    "RTF": Measure(DOWN, "seconds of work for a second of speech"),
    "CPU s / s": Measure(DOWN, "seconds of all cores for a second of speech"),
    "coverage %": Measure(UP, "sounds of the text that are said"),
    "skips": Measure(DOWN, "sounds left out, a sentence"),
    "repeats": Measure(DOWN, "sounds said twice, a sentence"),
    "early stop %": Measure(DOWN, "sentences that end too early"),
    "stopped at its bound %": Measure(DOWN, "sentences that do not end by themselves"),
    "EER %": Measure(DOWN, "error at the threshold where strangers pass as often as the same person fails"),
    "minDCF (p 0.01)": Measure(DOWN, "cost at the best threshold where one trial in a hundred is the same person"),
    "cosine, same": Measure(0, "mean similarity of two clips of one person"),
    "cosine, other": Measure(0, "mean similarity of clips of two people"),
    "STFT distance": Measure(DOWN, "distance of the spectra at three resolutions"),
    "mel dB": Measure(DOWN, "distance of the mel spectra"),
    "STOI": Measure(UP, "intelligibility beside the original, from 0 to 1"),
    "similarity to original": Measure(UP, "cosine of the embeddings of original and resynthesis"),
    "F0 RMSE cents": Measure(DOWN, "error of the pitch; 100 cents are a semitone"),
    "voicing error %": Measure(DOWN, "frames that are voiced in one and not in the other"),
    "missed %": Measure(DOWN, "speech that nobody is given"),
    "false alarm %": Measure(DOWN, "silence that is taken for speech"),
    "confusion %": Measure(DOWN, "speech that is given to the wrong person"),
    "speakers off by": Measure(DOWN, "how far the number of speakers is off"),
    "median s": Measure(DOWN, "seconds, the middle of the runs"),
    "per audio second": Measure(DOWN, "seconds for a second of audio"),
    "samples/s": Measure(UP, "samples of audio made in a second"),
    "similarity lost": Measure(DOWN, "similarity to the speaker less than without emotion"),
    "accuracy / chance": Measure(UP, "how much oftener than by guessing the emotion is recognized"),
    "aligned %": Measure(UP, "sayings in which every sound is said"),
}
NOT_COMPARED = ("real", "actors", "recording")  # beginnings of rows that are a bound, not a system


def title(subcommand: str) -> str:
    """In words, or the subcommand's name; what follows an underscore tells apart reports of one subcommand."""
    return TITLES.get(subcommand.partition("_")[0], subcommand)


def heading(column: str) -> str:
    """With an arrow for the way in which it is better."""
    better = MEASURES[column].better if column in MEASURES else 0
    return column + {UP: " \N{UPWARDS ARROW}", DOWN: " \N{DOWNWARDS ARROW}"}.get(better, "")


def best(column: str, values: dict[str, float]) -> set[str]:
    """The rows with the best value of a column: none where there is nothing to compare."""
    compared = {row: value for row, value in values.items() if not row.startswith(NOT_COMPARED)}
    better = MEASURES[column].better if column in MEASURES else 0
    if not better or len(compared) < 2 or len(set(compared.values())) == 1:
        return set()
    top = max(compared.values(), key=lambda value: better * value)
    return {row for row, value in compared.items() if value == top}
