"""Another language is one module with `LANGUAGE` and one line in the registry: this module is one."""

from __future__ import annotations

import pytest

from synthesizer.text import languages
from synthesizer.text.languages import Language, Normalized
from synthesizer.text.processor import TextProcessor
from utils.errors import CloningError


def _normalize(text, words=()):
    return Normalized(text.replace("1", "un").lower())


def _pronounce(words, lexicon):
    return [list(lexicon.get(word, word if word.isalpha() else ())) for word in words]


LANGUAGE = Language(
    name="toy",
    phones=("a", "b", "n", "u"),
    normalize=_normalize,
    pronounce=_pronounce,
    is_known=lambda word: word != "nub",
)


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(languages.MODULES, "toy", __name__)
    return TextProcessor({"symbol_set": "phonemes", "language": "toy"}, lexicon={"nana": ["n", "a"]})


def test_a_language_is_one_module(toy):
    assert toy.phonemes("Ba 1, nana nub") == ["b", "a", " ", "u", "n", ",", "n", "a", " ", "n", "u", "b"]
    assert toy.symbols[-4:] == ("a", "b", "n", "u")
    assert toy.decode(toy.encode("ab")) == ["a", "b", "~"]
    assert toy.unknown_words("ba nub") == ["nub"]
    assert [s.text for s in toy.sentences("Ab 1. Ba\nna")] == ["ab un.", "ba, na"]


def test_its_lexicon_is_checked_against_its_own_phones(monkeypatch):
    monkeypatch.setitem(languages.MODULES, "toy", __name__)
    with pytest.raises(CloningError, match="'AH0' is not a phone"):
        TextProcessor({"symbol_set": "phonemes", "language": "toy"}, lexicon={"nana": ["AH0"]})


def test_an_unknown_language_names_those_there_are():
    with pytest.raises(CloningError, match=r"unknown language 'klingon': there are \['english'\]"):
        TextProcessor({"symbol_set": "phonemes", "language": "klingon"})
