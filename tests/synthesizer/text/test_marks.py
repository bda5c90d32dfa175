"""Marks in a text: what they mean, that plain text goes on as before, that nothing hostile comes through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthesizer.text.marks import DECIBELS, NEUTRAL, RATES, SEMITONES, Style, plain, read_marks, style_of
from synthesizer.text.processor import TextProcessor
from utils.errors import CloningError

TEXT = TextProcessor("phonemes")


def sentences(text: str):
    return list(TEXT.sentences(text))


def spoken(text: str) -> str:
    return " ".join(sentence.text for sentence in sentences(text))


def notes(text: str) -> str:
    return "; ".join(note for sentence in sentences(text) for note in sentence.notes)


@pytest.mark.parametrize("text", [
    "a < b & c > d", "H<sub>2</sub>O is wet.", "<b>Bold</b> & <i>so</i> on", "5 < 6, AT&T &amp; Co", "I <3 you.",
    "the <breaking> news", "{HH AH L OW} there", "<p>One.</p><p>Two.</p>",
])  # fmt: skip
def test_a_text_without_known_marks_is_not_touched(text):
    assert read_marks(text, TEXT.language.phones) is None
    assert all(not sentence.styled and not sentence.asked for sentence in sentences(text))


def test_breaks_part_sentences_by_their_very_time():
    found = sentences('Hello <break time="500ms"/> there. <break time="1.5s"/><break time=".25s"/> Good <break/> day.')
    assert [(s.text, s.pause_s, s.asked) for s in found] == [
        ("Hello,", 0.5, True), ("there.", 1.75, True), ("Good,", 0.4, True), ("day.", 0.0, False),
    ]  # fmt: skip
    assert [s.pause_s for s in sentences('Yes. <break strength="x-strong"/>No. So.')] == [1.2, 0.45, 0.0]
    assert "before the first word" in notes('<break time="1s"/>Hello.')
    for wrong in ("11s", "-1s", "1h", "", "1e9s"):
        assert sentences(f'Hello <break time="{wrong}"/> there.')[0].pause_s == 0.4 and "break time" in notes(
            f'Hello <break time="{wrong}"/> there.'
        )


def test_words_have_the_style_of_their_marks_and_no_others():
    text = 'So <prosody rate="slow" pitch="+2st">it is. And <emphasis level="strong">was</emphasis> it</prosody> then.'
    found = {word.text: word.style for sentence in sentences(text) for word in TEXT.words(sentence.said)}
    slow = Style(0.8, 2.0, 0.0)
    strong = Style(0.68, 4.0, 3.0)
    assert found == {"So": NEUTRAL, "it": slow, "is": slow, "And": slow, "was": strong, "then": NEUTRAL}
    assert spoken(text) == "So it is. And was it then."


def test_pronunciations_in_two_alphabets_say_the_same():
    for mark in ('alphabet="x-arpabet" ph="T AH M AA1 T OW"', 'alphabet="ipa" ph="təˈmɑːtoʊ"', 'ph="tə.ˈmɑ.toʊ"'):
        (sentence,) = sentences(f"A <phoneme {mark}>tomato</phoneme>.")
        assert TEXT.phonemes(sentence.said)[-7:] == ["T", "AH", "M", "AA", "T", "OW", "."]
    for wrong in ('alphabet="ipa" ph="¿"', 'alphabet="x-arpabet" ph="QQ"', 'alphabet="x-sampa" ph="t"', 'ph=""', ""):
        text = f"A <phoneme {wrong}>tomato</phoneme>."
        assert spoken(text) == "A tomato." and "phoneme ph=" in notes(text)


@pytest.mark.parametrize(("mark", "text", "said"), [
    ('interpret-as="characters"', "AB-12", "{EY} {B IY} dash one two"),
    ('interpret-as="digits"', "2024", "two zero two four"),
    ('interpret-as="ordinal"', "22", "twenty second"),
    ('interpret-as="ordinal"', "112", "one hundred twelfth"),
    ('interpret-as="date" format="dmy"', "3/4/2024", "April third, twenty twenty-four"),
    ('interpret-as="date"', "2024-04-03", "April third, twenty twenty-four"),
    ('interpret-as="date" format="md"', "12/25", "December twenty fifth"),
])  # fmt: skip
def test_say_as(mark, text, said):
    found = spoken(f"It is <say-as {mark}>{text}</say-as>.")
    assert found.replace("-", " ").lower() == f"it is {said}.".replace("-", " ").lower()


def test_substitutes_and_what_is_unknown_are_named():
    text = '<speak>The <sub alias="World Wide Web">WWW</sub> &amp; <foo a="1">you</foo> &nbsp;& <x:y>me</x:y>.</speak>'
    assert spoken(text) == "The World Wide Web and you and me."
    assert notes(text) == "marks left out: <foo>, <x-y>"
    odd = '<prosody rate="9" contour="x" volume="loudest">Hi</prosody> <say-as interpret-as="x">5</say-as>'
    assert all(what in notes(odd) for what in ("rate='9'", "contour", "volume='loudest'", "interpret-as='x'"))


@pytest.mark.parametrize("text", [
    "<emphasis>open", "<emphasis>a</prosody>", "</speak><break/>", '<break time="1s>', "<break/><![CDATA[",
    "<emphasis>" * 60 + "deep" + "</emphasis>" * 60,
    '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><speak>&e;<break/></speak>',
    '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><speak><break/>&b;</speak>',
    "<break/>", "<speak></speak>", "<emphasis> ... </emphasis>",
])  # fmt: skip
def test_what_cannot_be_read_is_one_line(text):
    with pytest.raises(CloningError) as caught:
        sentences(text)
    assert "\n" not in str(caught.value) and "root:" not in str(caught.value)


PARTS = [
    "<break/>", "<emphasis>", "</emphasis>", "word", "&", "<", ">", " ", "&#x41;", "\ue000", '<prosody rate="50%">',
    "</prosody>", "{HH AH}", "\ud800", "</p>", "é", "5", ".",
]  # fmt: skip


@given(st.lists(st.sampled_from(PARTS), max_size=12))
def test_any_mixture_is_read_or_refused(parts):
    try:
        found = sentences("".join(parts))
    except CloningError:
        return
    assert all(plain(s.text) == s.text for s in found)


@given(st.floats(*RATES), st.floats(*SEMITONES), st.floats(*DECIBELS))
def test_a_style_comes_through_a_text(rate, pitch, volume):
    found = style_of(Style(rate, pitch, volume).control())
    assert found is not None and abs(found.rate - rate) < 0.006
    assert abs(found.pitch - pitch) < 0.06 and abs(found.volume - volume) < 0.26
    assert style_of("{HH AH}") is None and not any(c.isalnum() for c in NEUTRAL.control())
