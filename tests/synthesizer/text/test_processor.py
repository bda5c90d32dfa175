"""Text to ids: both symbol sets, phoneme sequences, what a checkpoint saves, light imports, little work."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthesizer.text.processor import PUBLISHED, TextConfig, TextProcessor
from synthesizer.text.published import text_to_sequence
from synthesizer.text.symbols import ARPABET, PAUSES, SymbolTable
from tests.conftest import ROOT
from tests.support.work import work_of
from utils.errors import CloningError

PHONEMES = TextProcessor("phonemes")
MARKS = (*PAUSES, " ")


def test_characters_are_the_published_front_end():
    processor = TextProcessor("characters")
    assert processor.config == PUBLISHED
    assert len(processor) == 66
    assert processor.encode(" Dr. Smith paid $5. ") == text_to_sequence("Dr. Smith paid $5.")


def test_characters_with_our_normalizer_are_lower_case():
    processor = TextProcessor(TextConfig(symbol_set="characters"))
    assert "".join(processor.decode(processor.encode("It weighs 2 kg."))) == "it weighs two kilograms.~"


def test_what_the_published_front_end_drops_is_noted():
    processor = TextProcessor("characters")
    notes = processor.read("50% of {HH AH0} A_B").notes
    assert any("curly braces" in note for note in notes)
    assert any(note.startswith("left out: ") and "%" in note and "_" in note for note in notes)
    with pytest.raises(CloningError, match="nothing that can be spoken"):
        processor.encode("% % %")


def test_phonemes_of_a_sentence():
    assert PHONEMES.phonemes("Hello, world! (Yes) — no") == ("HH EH L OW , W ER L D ! Y EH S , N OW".split())
    assert PHONEMES.phonemes("two words") == ["T", "UW", " ", "W", "ER", "D", "Z"]
    assert PHONEMES.decode(PHONEMES.encode("Yes.")) == ["Y", "EH", "S", ".", "~"]


def test_stress_is_a_setting_on_the_same_table():
    stressed = TextProcessor(TextConfig(stress=True))
    assert stressed.symbols == PHONEMES.symbols
    assert stressed.phonemes("Hello") == ["HH", "EH0", "L", "OW1"]
    assert set(ARPABET) <= set(PHONEMES.symbols)


def test_inline_pronunciation():
    assert PHONEMES.words("Say {T AH0 M AA1 T OW2}, no")[1].phones == ("T", "AH", "M", "AA", "T", "OW")
    assert PHONEMES.words("Say {T AH0 M AA1 T OW2}, no")[1].after == ","
    with pytest.raises(CloningError, match="'XX' is not a phone"):
        PHONEMES.encode("Say {T AH0 XX}")


def test_unknown_words_are_named_once_and_a_lexicon_settles_them():
    assert PHONEMES.unknown_words("The zorblax met a Zorblax and a blorf") == ["zorblax", "blorf"]
    settled = TextProcessor("phonemes", lexicon={"Zorblax": ["Z", "AO1", "R"]})
    assert settled.unknown_words("The zorblax met a blorf") == ["blorf"]
    assert settled.phonemes("Zorblax") == ["Z", "AO", "R"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from("the cat, sat. on 3 {HH AH0}! ... - (well) A ? $5 naïve".split()), min_size=1))
def test_exactly_one_symbol_between_words_and_none_before_the_first(words):
    try:
        symbols = PHONEMES.phonemes(" ".join(words))
    except CloningError:
        return
    assert symbols[0] not in MARKS and symbols[-1] != " "
    assert not any(a in MARKS and b in MARKS for a, b in zip(symbols, symbols[1:], strict=False))
    assert PHONEMES.encode(" ".join(words))[-1] == 1


@pytest.mark.parametrize("config", [PUBLISHED, TextConfig(), TextConfig(stress=True)])
def test_a_checkpoint_rebuilds_the_processor(config):
    processor = TextProcessor(config)
    again = TextProcessor.from_description(processor.describe())
    assert again.config == config and again.symbols == processor.symbols


def test_a_changed_symbol_table_is_named():
    description = PHONEMES.describe()
    description["symbols"][11] = "XX"
    with pytest.raises(CloningError, match=r"1 differ: id 11: 'AA' != 'XX'"):
        TextProcessor.from_description(description)


def test_settings_that_do_not_exist_or_do_not_fit_are_refused():
    with pytest.raises(CloningError, match="unknown settings"):
        TextProcessor({"symbols_set": "phonemes"})
    with pytest.raises(CloningError, match="must be one of"):
        TextProcessor("letters")
    with pytest.raises(CloningError, match='needs symbol_set "characters"'):
        TextProcessor({"symbol_set": "phonemes", "cleaner": "published"})


def test_symbol_tables_name_what_they_lack():
    table = SymbolTable(["_", "~", "a"])
    assert table.encode("a") == [2, 1]
    with pytest.raises(CloningError, match=r"unknown symbols \['b'\]"):
        table.encode("ab")
    assert table.differences(["_", "~", "b", "c"]) == ["id 2: 'a' != 'b'", "size: 3 != 4"]


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, synthesizer.text;"
        "heavy = ('gruut', 'gruut_lang_en', 'num2words', 'text_unidecode', 'numpy', 'torch');"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("symbol_set", "lines"), [("characters", 5_000), ("phonemes", 20_000)])
def test_a_sentence_is_encoded_fast_after_the_first(symbol_set, lines):
    """Once the dictionary is read (3.5 million lines of Python) and the rules are compiled."""
    processor = TextProcessor(symbol_set)
    processor.encode("Dr. Smith said hello to the zorblax on 3 May 2021.")
    for number in range(4):
        text = f"On 3 May 20{number + 11} Dr. Jones sold {number + 5},300 plonkers{'x' * number} for $2.50."
        assert work_of(lambda text=text: processor.encode(text)) < lines
    assert work_of(lambda: processor.encode(20 * text)) < 25 * lines
