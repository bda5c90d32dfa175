"""English: the normalizer, the pronouncing dictionary and the abbreviations in one object."""

from __future__ import annotations

from synthesizer.text.english import normalize, phonemes, questions
from synthesizer.text.english.vocabulary import names
from synthesizer.text.languages import Language
from synthesizer.text.symbols import ARPABET, ARPABET_STRESSED

LANGUAGE = Language(
    name="english",
    phones=ARPABET + ARPABET_STRESSED,
    normalize=normalize.normalize,
    pronounce=phonemes.pronounce,
    is_known=phonemes.is_known,
    without_stress=phonemes.without_stress,
    melody=questions.melody,
    abbreviations=normalize.SENTENCE_ABBREVIATIONS,
    sentence_starters=names("starters"),
)
