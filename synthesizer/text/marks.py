"""Marks in a text, a small subset of SSML (W3C Speech Synthesis Markup Language 1.1): pauses, pronunciations, prosody.

    Hello <break time="500ms"/> there, <emphasis>old</emphasis> friend. <say-as interpret-as="characters">AB1</say-as>

A text with none of these marks is not touched. Within a text, a style that begins is `{...}` around three characters of
Unicode's private use area, which come through normalizing as an inline pronunciation does.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.etree.ElementTree import Element

from synthesizer.text.say_as import phones_of, said_as
from utils.errors import CloningError

RATES, SEMITONES, DECIBELS = (0.25, 4.0), (-12.0, 12.0), (-40.0, 12.0)
LONGEST_BREAK_S = 10.0
NO_PROSODY = "marks of prosody and emphasis are left out: this synthesizer plans no prosody"
DEEPEST = 50  # marks within marks
_MARKED = re.compile(r"<(?:speak|break|phoneme|say-as|prosody|emphasis|sub\s+alias)\b[^<>]*>")
_LONE_AMPERSAND = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#\d{1,7}|#[xX][0-9a-fA-F]{1,6});)")
_ENTITY = re.compile(r"&(?!(?:amp|lt|gt|quot|apos);)[A-Za-z]{2,31};")
_LONE_LESS = re.compile(r"<(?![A-Za-z/!?])")
_PREFIX = re.compile(r"(</?[A-Za-z][\w-]*):(?=[A-Za-z])")
_CONTROL = re.compile("\\{([\ue000-\uf8ff]{3})\\}")
_PRIVATE = re.compile("[\ue000-\uf8ff]")
_FIRST = (0xE000, 0xE400, 0xE800)  # code points of a rate of 0, of 0 semitones less an octave, of the least level
_STRENGTHS = {"none": 0.0, "x-weak": 0.1, "weak": 0.2, "medium": 0.4, "strong": 0.8, "x-strong": 1.2}
_RATES = {"x-slow": 0.6, "slow": 0.8, "medium": 1.0, "default": 1.0, "fast": 1.25, "x-fast": 1.6}
_PITCHES = {"x-low": -6.0, "low": -3.0, "medium": 0.0, "default": 0.0, "high": 3.0, "x-high": 6.0}
_VOLUMES = {"silent": -40.0, "x-soft": -12.0, "soft": -6.0, "medium": 0.0, "default": 0.0, "loud": 6.0, "x-loud": 10.0}


class Style(NamedTuple):
    """How words are said: times as fast, semitones higher, decibels louder."""

    rate: float = 1.0
    pitch: float = 0.0
    volume: float = 0.0

    def within(self, inner: Style) -> Style:
        """`inner` in a stretch that is said so itself, within the bounds."""
        values = (self.rate * inner.rate, self.pitch + inner.pitch, self.volume + inner.volume)
        bounds = (RATES, SEMITONES, DECIBELS)
        return Style(*(min(max(v, low), high) for v, (low, high) in zip(values, bounds, strict=True)))

    def control(self) -> str:
        """What stands in a text where this style begins: steps of 1%, 0.1 semitones and 0.5 dB."""
        steps = (self.rate * 100, (self.pitch - SEMITONES[0]) * 10, (self.volume - DECIBELS[0]) * 2)
        return "{" + "".join(chr(first + round(step)) for first, step in zip(_FIRST, steps, strict=True)) + "}"


NEUTRAL = Style()
_EMPHASES = {
    "strong": Style(0.85, 2.0, 3.0),
    "moderate": Style(0.92, 1.0, 2.0),
    "reduced": Style(1.1, -1.0, -3.0),
    "none": NEUTRAL,
}


class Segment(NamedTuple):
    """Text with styles in it, and the seconds of the break after it; None where it ends as it does."""

    text: str
    pause_s: float | None


def style_of(piece: str) -> Style | None:
    """The style that begins with an inline pronunciation (`{...}`), None where it is none."""
    if not (match := _CONTROL.fullmatch(piece)):
        return None
    rate, pitch, volume = (ord(c) - first for c, first in zip(match[1], _FIRST, strict=True))
    return NEUTRAL.within(Style(rate / 100, pitch / 10 + SEMITONES[0], volume / 2 + DECIBELS[0]))


def last_style(text: str) -> Style | None:
    """The style that the end of a text is said in, None where none begins in it."""
    found = _CONTROL.findall(text)
    return style_of("{" + found[-1] + "}") if found else None


def without_styles(text: str) -> str:
    """A text as it is written but for its styles."""
    return _CONTROL.sub("", text)


def plain(text: str) -> str:
    """A text without its styles, as people read it."""
    if not _CONTROL.search(text):
        return text
    return re.sub(r"\s+", " ", re.sub(r"\s+(?=[,.;:?!])", "", _CONTROL.sub("", text))).strip()


def read_marks(text: str, language_phones: tuple[str, ...]) -> tuple[list[Segment], list[str]] | None:
    """The segments of a marked text between its breaks, and notes on what is not followed; None for plain text.

    Raises CloningError for marks that are not closed, or too deep.
    """
    if not _MARKED.search(text):
        return None
    reader = _Reader(language_phones)
    reader.walk(_parsed(_PRIVATE.sub("", text)), NEUTRAL, 0)
    reader.end(None)
    notes = [f"marks left out: {', '.join(reader.unknown)}"] if reader.unknown else []
    return reader.segments, [*notes, *reader.notes]


def _parsed(text: str) -> Element:
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    text = _ENTITY.sub(lambda m: html.unescape(m[0]), re.sub(r"^\s*<\?xml[^>]*\?>", "", text))
    text = _PREFIX.sub(r"\1-", _LONE_LESS.sub("&lt;", _LONE_AMPERSAND.sub("&amp;", text)))
    text = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", " ", text)
    try:
        return fromstring(f"<marked>{text}</marked>", forbid_dtd=True)
    except ParseError as error:
        raise CloningError(
            f"the marks of the text cannot be read ({error}): close each, as in <emphasis>so</emphasis> and <break/>"
        ) from error
    except DefusedXmlException as error:
        raise CloningError("the marks of the text declare entities or a document type: leave these out") from error


@dataclass
class _Reader:
    phones: tuple[str, ...]
    segments: list[Segment] = field(default_factory=list)
    unknown: dict[str, None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    def walk(self, element: Element, style: Style, depth: int) -> None:
        """Read what is within a mark that is said in a style."""
        if depth > DEEPEST:
            raise CloningError(f"the text has more than {DEEPEST} marks within each other: use fewer")
        self.parts.append(element.text or "")
        for child in element:
            self.mark(child, style, depth)
            self.parts.append(child.tail or "")

    def mark(self, element: Element, style: Style, depth: int) -> None:
        """Read one mark and what is within."""
        name = element.tag.rpartition("}")[2].lower()
        known = {key.rpartition("}")[2].lower(): value.strip() for key, value in element.attrib.items()}
        if name == "break":
            self.end(self.pause(known))
        elif name == "sub" and "alias" in known:
            self.parts.append(known["alias"])
        elif name == "phoneme":
            self.phoneme(element, known)
        elif name == "say-as":
            said, note = said_as(_words(element), known.get("interpret-as", ""), known.get("format", ""))
            self.parts.append(said)
            self.notes += [note] if note else []
        elif name in ("prosody", "emphasis"):
            inner = style.within(self.style(name, known))
            self.parts.append(f" {inner.control()} " if inner != style else "")
            self.walk(element, inner, depth + 1)
            self.parts.append(f" {style.control()} " if inner != style else "")
        else:
            if name not in ("speak", "p", "s"):
                self.unknown[f"<{name[:40]}>"] = None
            self.walk(element, style, depth + 1)
            self.parts.append({"p": "\n\n", "s": "\n"}.get(name, ""))

    def phoneme(self, element: Element, known: dict[str, str]) -> None:
        """What a mark of a pronunciation says; its text, where the phones are none."""
        alphabet = known.get("alphabet", "ipa").lower()
        found, wrong = phones_of(known.get("ph", ""), alphabet, self.phones)
        if wrong:
            self.notes.append(f"phoneme ph={known.get('ph', '')[:40]!r}: {wrong}; its text is read as it is written")
        self.parts.append(f" {{{' '.join(found)}}} " if found else _words(element))

    def end(self, pause_s: float | None) -> None:
        """A break, or the end of the text."""
        self.segments.append(Segment("".join(self.parts), pause_s))
        self.parts.clear()

    def pause(self, known: dict[str, str]) -> float:
        """Seconds of a break."""
        if "time" not in known:
            return self.named("break strength", known.get("strength", "medium"), _STRENGTHS, 0.4)
        match = re.fullmatch(r"\+?(\d{1,6}(?:\.\d{0,6})?|\.\d{1,6})\s*(ms|s)", known["time"])
        seconds = float(match[1]) / (1000 if match[2] == "ms" else 1) if match else -1.0
        if not 0 <= seconds <= LONGEST_BREAK_S:
            given = known["time"][:40]
            self.notes.append(f"break time={given!r}: 0s to {LONGEST_BREAK_S:g}s is wanted; taken as 400ms")
            return 0.4
        return seconds

    def style(self, name: str, known: dict[str, str]) -> Style:
        """What a mark of prosody or of emphasis asks for."""
        if name == "emphasis":
            level = known.get("level", "moderate")
            if level not in _EMPHASES:
                self.notes.append(f"emphasis level={level[:40]!r}: left out; there are {', '.join(_EMPHASES)}")
            return _EMPHASES.get(level, NEUTRAL)
        for other in sorted(set(known) - {"rate", "pitch", "volume"}):
            self.notes.append(f"prosody {other[:40]}: left out; there are rate, pitch, volume")
        return Style(
            self.named("prosody rate", known.get("rate", "medium"), _RATES, 1.0, r"%?", RATES),
            self.named("prosody pitch", known.get("pitch", "medium"), _PITCHES, 0.0, "st", SEMITONES),
            self.named("prosody volume", known.get("volume", "medium"), _VOLUMES, 0.0, "dB", DECIBELS),
        )

    def named(
        self,
        what: str,
        value: str,
        names: dict[str, float],
        otherwise: float,
        unit: str = "",
        bounds: tuple[float, float] = (0, 0),
    ) -> float:
        """The number of a name, or of digits with a unit; else `otherwise`, with a note."""
        if value in names:
            return names[value]
        match = re.fullmatch(rf"([+-]?\d{{1,4}}(?:\.\d{{1,4}})?)({unit})", value) if unit else None
        if match:
            number = float(match[1])
            if match[2] == "%":  # +10% is a tenth more, 110% the same
                number = number / 100 + (value[0] in "+-")
            if bounds[0] <= number <= bounds[1]:
                return number
        limits = f", or {bounds[0]:g} to {bounds[1]:g}{unit.replace('%?', '')}" if unit else ""
        self.notes.append(f"{what}={value[:40]!r}: left out; there are {', '.join(names)}{limits}")
        return otherwise


def _words(element: Element) -> str:
    return "".join(element.itertext())
