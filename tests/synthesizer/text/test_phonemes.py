"""English words to ARPAbet: conventions, context, guesses, the user's lexicon and its error messages."""

from __future__ import annotations

import re

import pytest

from synthesizer.text.english import phonemes
from synthesizer.text.english.phonemes import from_ipa, is_known, pronounce, read_lexicon
from synthesizer.text.symbols import ARPABET, ARPABET_STRESSED
from tests.conftest import DATA
from utils.errors import CloningError


def spoken(text: str, lexicon=None) -> list[str]:
    return [" ".join(phones) for phones in pronounce(text.split(), lexicon or {}) if phones]


@pytest.mark.parametrize(
    ("word", "phones"),
    [
        ("hello", "HH EH0 L OW1"),
        ("world", "W ER1 L D"),
        ("butter", "B AH1 T ER0"),  # no flap
        ("button", "B AH1 T AH0 N"),  # no syllabic n
        ("judge", "JH AH1 JH"),
        ("church", "CH ER1 CH"),
        ("vision", "V IH1 ZH AH0 N"),
        ("thing", "TH IH1 NG"),
        ("this", "DH IH1 S"),
        ("boys'", "B OY1 Z"),
        ("o'clock", "AH0 K L AA1 K"),
    ],
)
def test_words_of_the_dictionary(word, phones):
    assert spoken(word) == [phones]


def test_every_entry_of_the_dictionary_maps_onto_the_39_phones():
    symbols = {symbol for entries in phonemes._words().values() for _, ipa in entries for symbol in ipa.split()}
    phones = {phone for symbol in symbols for phone in from_ipa(symbol)}
    assert phones <= set(ARPABET) | set(ARPABET_STRESSED)
    assert {phonemes.without_stress(p) for p in phones} == set(ARPABET)


def test_context_decides_between_readings():
    assert spoken("I read the book yesterday")[1] == "R EH1 D"
    assert spoken("he has read the book")[2] == "R EH1 D"
    assert spoken("I will read the book")[2] == "R IY1 D"
    assert spoken("the apple the book") == ["DH IY0", "AE1 P AH0 L", "DH AH0", "B UH1 K"]
    assert spoken("to ask to go to .") == ["T UW1", "AE1 S K", "T AH0", "G OW1", "T UW1"]
    assert spoken("a vitamin A .")[0] == "AH0"
    assert spoken("a vitamin A .")[2] == "EY1"
    assert spoken("grade A B")[1:] == ["EY1", "B IY1"]


def test_words_that_are_spelled_alike_are_told_apart():
    rows = [line.split("\t") for line in (DATA / "heteronyms.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    assert len(rows) >= 60 and len({word for _, word, _ in rows}) >= 8
    wrong = []
    for sentence, word, phones in rows:
        pieces = re.findall(r"[\w']+|[.,;!?]", sentence)
        found = " ".join(pronounce(pieces, {})[[piece.lower() for piece in pieces].index(word)])
        if found != phones:
            wrong.append(f"{sentence!r}: {word} is {found}, wanted {phones}")
    assert not wrong, "\n".join(wrong)


def test_rare_readings_are_not_taken_for_the_usual():
    assert spoken("a nice day in Nice .")[1::3] == ["N AY1 S", "N IY1 S"]
    assert spoken("the Polish people polish shoes")[1::2] == ["P OW1 L IH0 SH", "P AA1 L IH0 SH"]
    assert spoken("they multiply here .")[1] == "M AH1 L T IH0 P L AY2"
    assert spoken("I used to go")[1] == "Y UW1 S T" and spoken("I used it")[1] == "Y UW1 Z D"


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Fig . A .", True), ("vitamin A pills", True), ("Plan A failed", True), ("Vitamin A Deficiency", True),
        ("A is for apple", True), ("from A to B", True), ("A I", True), ("A", True), ("A .", True), ("an A plus", True),
        ("A dog ran", False), ("Once Upon A Time", False), ("He said : A man", False), ("A {} here", False),
        ("a , b", False),
    ],
)  # fmt: skip
def test_a_lone_capital_a_is_the_letter(text, letter):
    words = text.split()
    index = words.index("A") if "A" in words else 0
    assert pronounce(words, {})[index] == (["EY1"] if letter else ["AH0"])


def test_unknown_words_are_built_from_known_ones_or_guessed():
    assert spoken("zorblax zorblaxes") and not is_known("zorblax")
    assert is_known("blogger's") or is_known("teapot's")
    assert phonemes._by_suffix("teapots") == (*pronounce(["teapot"], {})[0], "S")
    assert phonemes._by_suffix("judges")[-2:] == ("IH0", "Z")


def test_the_users_lexicon_comes_first(tmp_path):
    path = tmp_path / "my.txt"
    path.write_text("# mine\nGnocchi  N Y AO1 K IY0\nthe  DH AE1 ; no\n".replace(" ; no", "  # rare"), encoding="utf-8")
    lexicon = read_lexicon(path)
    assert spoken("the gnocchi", lexicon) == ["DH AE1", "N Y AO1 K IY0"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ok  OW1 K EY1\ngnocchi\n", "line 2: no phones after 'gnocchi'"),
        ("\ngnocchi  N Y XX K IY0\n", "line 2: 'XX' is not a phone: use AA AE"),
        ("r2d2  AA1 R\n", "line 1: 'r2d2' is no word of letters"),
    ],
)
def test_errors_in_a_lexicon_name_the_line(tmp_path, content, message):
    path = tmp_path / "my.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CloningError, match=message):
        read_lexicon(path)


def test_a_lexicon_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(CloningError, match="no lexicon at"):
        read_lexicon(tmp_path / "none.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CloningError, match="not a readable UTF-8 text file"):
        read_lexicon(tmp_path / "binary")
    with pytest.raises(CloningError, match="not a readable"):
        read_lexicon(tmp_path)
