"""What the page says of a text and of a likeness, in words."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

LEAST_LETTERS = 15  # that a language is told by
SURE = 0.9  # probability of another language than English, from which on it is named
READ_CHARACTERS = 3000  # of a long text
CHARACTERS_PER_SECOND = 14.5  # of speech at rate 1
LANGUAGES = {
    "ar": "Arabic", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek", "es": "Spanish", "fi": "Finnish",
    "fr": "French", "he": "Hebrew", "hi": "Hindi", "hu": "Hungarian", "id": "Indonesian", "it": "Italian",
    "ja": "Japanese", "ko": "Korean", "nl": "Dutch", "no": "Norwegian", "pl": "Polish", "pt": "Portuguese",
    "ro": "Romanian", "ru": "Russian", "sv": "Swedish", "tr": "Turkish", "uk": "Ukrainian", "vi": "Vietnamese",
    "zh": "Chinese",
}  # fmt: skip


def of_text(text: str) -> str:
    """A line on a text that is not English, or nothing: only English is spoken."""
    letters = [c for c in text[:READ_CHARACTERS] if c.isalpha()]
    scripts = Counter(_script(c) for c in letters)
    latin = scripts.pop("LATIN", 0)
    if scripts:
        (script, count), *_ = scripts.most_common(1)
        if count > latin:
            return (
                f"Most of this is in {script.title()} letters. Only English is spoken: "
                "other letters are spelled in Latin ones or left out."
            )
        if count >= LEAST_LETTERS:
            return f"A part of this is in {script.title()} letters: only English is spoken, so it will sound wrong."
    if latin < LEAST_LETTERS:
        return ""
    code, probability = _language(text[:READ_CHARACTERS])
    if code in ("", "en") or probability < SURE:
        return ""
    name = LANGUAGES.get(code, f"another language ({code})")
    return f"This looks like {name}. Only English is spoken: it will be read as if it were English."


def _script(letter: str) -> str:
    """The first word of its name in Unicode: LATIN, CYRILLIC, CJK."""
    return unicodedata.name(letter, "UNKNOWN").partition(" ")[0]


@lru_cache(maxsize=64)
def _language(text: str) -> tuple[str, float]:
    """Its code (ISO 639-1) and how sure that is; "" where py3langid is not installed."""
    try:
        identifier = _identifier()
    except ImportError:
        return "", 0.0
    code, probability = identifier.classify(text)
    return code, float(probability)


@lru_cache(maxsize=1)
def _identifier():
    """Lui and Baldwin 2012, langid.py: naive Bayes over byte n-grams; takes 0.7 s to load, then 1 ms a sentence."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def length(text: str, rate: float = 1.0) -> str:
    """How much text it is, and about how long it will last."""
    count = len(text.strip())
    if not count:
        return ""
    seconds = count / CHARACTERS_PER_SECOND / rate
    number, unit = (seconds, "second") if seconds < 90 else (seconds / 60, "minute")
    number = max(1, round(number))
    lasts = f"{number} {unit}{'s' if number > 1 else ''}"
    return f"{count:,} characters, about {lasts} of speech"


@dataclass(frozen=True)
class Scale:
    """Mean cosines of embeddings of whole clips, and the one from which on two stretches are taken for one person."""

    same: float  # person
    alike: float  # two people of one accent
    other: float  # two people
    threshold: float


# by fingerprint of the encoder: "cosine, same" and "cosine, other" of `python evaluate.py encoder --corpus CORPORA`, of
# set-aside readers (LibriSpeech) and of learners with one first language (speechocean762); diarization.json's threshold
SCALES = {"de5575e0ad125840": Scale(same=0.81, alike=0.39, other=0.13, threshold=0.62)}


def of_similarity(similarity: float, encoder: str) -> str:
    """What a cosine means, in two sentences."""
    scale = SCALES.get(encoder)
    if scale is None:
        return "1 would be the same recording. How near other voices come is not known of this encoder."
    if similarity >= scale.same - 0.05:
        verdict = "As near as another recording of the same person."
    elif similarity >= scale.threshold:
        verdict = "Near: by this encoder it would pass for the same person."
    else:
        verdict = "Far: by this encoder it would not pass for the same person."
    return (
        f"{verdict} Two recordings of one person are at {scale.same:.1f} on average, two people of one accent at "
        f"{scale.alike:.1f}, any two at {scale.other:.1f}."
    )
