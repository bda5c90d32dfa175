"""Text to the ids that a synthesizer reads: one object, rebuilt from what a checkpoint has saved."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from synthesizer.text import languages, published
from synthesizer.text.english.phonemes import check_phones, read_lexicon
from synthesizer.text.languages import Normalized
from synthesizer.text.layout import blocks
from synthesizer.text.marks import (
    NEUTRAL,
    NO_PROSODY,
    Segment,
    Style,
    last_style,
    plain,
    read_marks,
    style_of,
    without_styles,
)
from synthesizer.text.sentences import PAUSES_S, Sentence, SpokenText, cut
from synthesizer.text.symbols import CHARACTERS, END, PAD, WORD_BOUNDARY, SymbolTable, phoneme_table
from utils.config import from_dict, to_dict
from utils.errors import CloningError


@dataclass(frozen=True)
class TextConfig:
    """How text becomes symbols. Saved in checkpoints: a model only understands the symbols it was trained on."""

    symbol_set: Literal["characters", "phonemes"] = "phonemes"
    language: str = "english"
    cleaner: Literal["published", "normalize"] = "normalize"  # "published" goes with "characters" only
    stress: bool = False  # vowels with 0, 1 or 2 after them; the recognizer's alignments have none

    def __post_init__(self) -> None:
        if self.cleaner == "published" and self.symbol_set != "characters":
            raise ValueError('cleaner "published" needs symbol_set "characters"')


PUBLISHED = TextConfig(symbol_set="characters", cleaner="published")


class Word(NamedTuple):
    """A word of spoken text and the one symbol that follows it."""

    text: str
    phones: tuple[str, ...]
    after: str  # a mark of `PAUSES`, the word boundary, or "" at the very end
    style: Style = NEUTRAL


class TextProcessor:
    """Written text to spoken text to symbols to ids.

    In `phonemes`, exactly one symbol stands between two words: a mark when there is one, else the word boundary.
    `{HH AH0 L OW1}` in the text is pronounced as it says.
    """

    def __init__(
        self,
        config: TextConfig | Mapping[str, Any] | str = PUBLISHED,
        *,
        lexicon: str | Path | Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """config: a TextConfig, its dictionary, or a symbol set ("characters" stands for the published settings).

        lexicon: a file of `word  PH PH` lines, or a mapping. Raises CloningError for anything unknown in either.
        """
        if isinstance(config, str):
            config = PUBLISHED if config == "characters" else from_dict(TextConfig, {"symbol_set": config})
        self.config = config if isinstance(config, TextConfig) else from_dict(TextConfig, config)
        self.language = languages.get(self.config.language)
        characters = self.config.symbol_set == "characters"
        self.table = SymbolTable(CHARACTERS if characters else phoneme_table(self.language.phones))
        if lexicon is None:
            self.lexicon: dict[str, tuple[str, ...]] = {}
        elif isinstance(lexicon, str | Path):
            self.lexicon = read_lexicon(lexicon, self.language.phones)
        else:
            phones = self.language.phones
            self.lexicon = {w.lower(): check_phones(p, f"lexicon, {w!r}", phones) for w, p in lexicon.items()}

    @classmethod
    def from_description(cls, description: Any, **options: Any) -> TextProcessor:
        """The processor that `describe` described. Raises CloningError naming the symbols that have changed since."""
        if not isinstance(description, Mapping) or not isinstance(description.get("symbols", ()), list | tuple):
            raise CloningError("the checkpoint does not say how texts are read (extra.text): it is damaged")
        settings = {name: value for name, value in description.items() if name != "symbols"}
        processor = cls(settings, **options)
        if differences := processor.table.differences(description.get("symbols", processor.symbols)):
            shown = "; ".join(differences[:5])
            raise CloningError(
                f"the checkpoint's symbols are not those of this version ({len(differences)} differ: {shown}): "
                "use the version that made the checkpoint, or train again"
            )
        return processor

    def describe(self) -> dict[str, Any]:
        """The settings and the whole symbol table, ready for a checkpoint's header."""
        return {**to_dict(self.config), "symbols": list(self.symbols)}

    @property
    def symbols(self) -> tuple[str, ...]:
        """All symbols; the index is the id. 0 is padding, 1 the end."""
        return self.table.symbols

    def __len__(self) -> int:
        return len(self.table)

    def sentences(self, text: str, max_chars: int = 200) -> Iterator[Sentence]:
        """The sentences of `text` as they will be spoken, the long ones in pieces of at most max_chars characters.

        Marks in it (`synthesizer.text.marks`) are followed. Raises CloningError when nothing can be spoken, and for
        marks that cannot be read.
        """
        marked = read_marks(text, self.language.phones)
        if marked is None:
            return self._plain_sentences(text, max_chars)
        segments, notes = marked
        if self.config.cleaner == "published" and any(last_style(segment.text) for segment in segments):
            segments = [segment._replace(text=without_styles(segment.text)) for segment in segments]
            notes = [*notes, NO_PROSODY]
        return self._marked(segments, notes, max_chars)

    def _marked(self, segments: Sequence[Segment], notes: Sequence[str], max_chars: int) -> Iterator[Sentence]:
        """The sentences between breaks, each with the style that it begins in."""
        last: Sentence | None = None
        noted, style = tuple(notes), NEUTRAL
        for segment in segments:
            before, found = last, list(self._spoken(segment, max_chars))
            for piece in found:
                styled = piece.text if style == NEUTRAL else f"{style.control()} {piece.text}"
                style = last_style(styled) or style
                if last is not None:
                    yield last
                shown = SpokenText(plain(piece.text))
                last = piece._replace(text=shown, styled="" if styled == shown else styled, notes=noted + piece.notes)
                noted = ()
            if not found:
                style = last_style(segment.text) or style
            if segment.pause_s is not None and last is not None:
                more = last.pause_s if last is before and last.asked else 0.0
                last = last._replace(pause_s=segment.pause_s + more, asked=True)
            elif segment.pause_s:
                noted += ("a break before the first word is left out",)
        if last is None:
            raise _nothing(" ".join(segment.text for segment in segments), noted)
        yield last._replace(pause_s=0.0, asked=False, notes=last.notes + noted)

    def _spoken(self, segment: Segment, max_chars: int) -> Iterator[Sentence]:
        """The sentences of a stretch between breaks: none where it has nothing to say."""
        text = segment.text.rstrip()
        if any(c.isalnum() for c in text):
            if segment.pause_s is not None and plain(text)[-1:].isalnum():
                text += ","  # goes on after the break
            yield from self._plain_sentences(text, max_chars)

    def _plain_sentences(self, text: str, max_chars: int) -> Iterator[Sentence]:
        """The sentences of a text without marks.

        A text is normalized before it is cut, for only then is it known which dots end a sentence. It is read a stretch
        at a time (`synthesizer.text.layout`), however long it is. Raises CloningError when nothing can be spoken.
        """
        last: Sentence | None = None
        notes: dict[str, None] = {}
        for block in blocks(text):
            pieces, found = self._cut(block.text, max_chars)
            notes.update(dict.fromkeys((*block.notes, *found)))
            for piece in pieces:
                if last is not None:
                    yield last
                last = piece._replace(notes=tuple(notes))
                notes.clear()
            if last is not None:
                last = last._replace(pause_s=PAUSES_S[block.end])
        if last is None:
            raise _nothing(text, notes)
        yield last._replace(pause_s=0.0, notes=(*last.notes, *notes))

    def read(self, text: str) -> Normalized:
        """The text as it will be spoken, with notes on what was left out. Raises CloningError when nothing is left."""
        if isinstance(text, SpokenText):
            return Normalized(text)
        found = _read_published(text) if self.config.cleaner == "published" else self._read_all(text)
        if not any(c.isalpha() for c in found.text):
            raise _nothing(text, found.notes)
        return Normalized(SpokenText(found.text), found.notes)

    def normalize(self, text: str) -> SpokenText:
        """The text as it will be spoken."""
        return SpokenText(self.read(text).text)

    def _read_all(self, text: str) -> Normalized:
        pieces: list[str] = []
        notes: dict[str, None] = {}
        for block in blocks(text):
            read = self.language.normalize(block.text, self.lexicon)
            notes.update(dict.fromkeys((*block.notes, *read.notes)))
            if read.text:
                pieces += [read.text, ". " if block.end == "paragraph" and read.text[-1].isalpha() else " "]
        return Normalized("".join(pieces[:-1]), tuple(notes))

    def _cut(self, text: str, max_chars: int) -> tuple[list[Sentence], Sequence[str]]:
        """The sentences of a stretch of text, and the notes on it."""
        if self.config.cleaner != "published":
            read = self.language.normalize(text, self.lexicon)
            return cut(read.text, max_chars), read.notes
        found = [(piece, _read_published(piece.text)) for piece in cut(text, max_chars, self.language)]
        pieces = [p._replace(text=SpokenText(r.text)) for p, r in found if any(c.isalpha() for c in r.text)]
        return pieces, [note for _, r in found for note in r.notes]

    def words(self, text: str, *, pronounced: bool = True) -> list[Word]:
        """The words of `text` with their phones and what follows each (for `phonemes`, whatever the symbol set).

        Not `pronounced`: without phones, for which no dictionary needs to be there.
        """
        pieces = list(_pieces(self.normalize(text)))
        spoken = [piece.key for piece in pieces]
        phones = self.language.pronounce(spoken, self.lexicon) if pronounced else [[]] * len(pieces)
        words: list[Word] = []
        style = NEUTRAL
        for piece, found in zip(pieces, phones, strict=True):
            if piece.kind == "mark":
                if words:
                    words[-1] = words[-1]._replace(after=_stronger(words[-1].after, piece.key))
                continue
            if piece.kind == "phones" and (begins := style_of(piece.text)):
                style = begins
                continue
            if piece.kind == "phones":
                found = list(check_phones(piece.text.strip("{}").split(), piece.text, self.language.phones))
            if not self.config.stress:
                found = [self.language.without_stress(phone) for phone in found]
            if found or not pronounced:
                words.append(Word(piece.text, tuple(found), WORD_BOUNDARY, style))
        if not words:
            raise _nothing(text, ())
        if words[-1].after == WORD_BOUNDARY:
            words[-1] = words[-1]._replace(after="")
        return words

    def phonemes(self, text: str) -> list[str]:
        """The phone and pause symbols of `text`, without the end symbol."""
        return [s for word in self.words(text) for s in (*word.phones, word.after) if s]

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, the end symbol last. Raises CloningError when nothing in it can be spoken."""
        if self.config.symbol_set == "phonemes":
            return self.table.encode(self.phonemes(text))
        spoken = self.read(text).text
        kept = [c for c in spoken.lower() if c in self.table.ids and c not in (PAD, END)]
        return self.table.encode(kept)

    def decode(self, ids: Sequence[int]) -> list[str]:
        """The symbols that ids stand for, padding left out."""
        return self.table.decode(ids)

    def unknown_words(self, text: str) -> list[str]:
        """Words that no dictionary has, so that their pronunciation is predicted; each once, in order."""
        pieces = _pieces(self.normalize(text))
        words = [p.text.lower() for p in pieces if p.kind == "word"]
        unknown = (w for w in words if w not in self.lexicon and not self.language.is_known(w))
        return list(dict.fromkeys(unknown))


class _Piece(NamedTuple):
    kind: Literal["word", "phones", "mark"]
    text: str  # as it stands in the text
    key: str  # what the language is asked to pronounce


_PIECE = re.compile(
    r"(?P<phones>\{[^{}]*\})|(?P<word>['’]?[^\W\d_]+(?:['’][^\W\d_]+)*['’]?)|(?P<mark>[,.?!;:]|(?<!\S)-+(?!\S)|[()])"
)
_MARKS = {"(": ",", ")": ","}
_STRENGTH = {mark: rank for rank, mark in enumerate((WORD_BOUNDARY, "-", ",", ":", ";", ".", "!", "?"))}


def _pieces(text: str) -> Iterator[_Piece]:
    """Words, inline pronunciations and marks of spoken text, in order."""
    for match in _PIECE.finditer(text):
        kind, found = match.lastgroup, match[0]
        if kind == "mark":
            yield _Piece("mark", found, _MARKS.get(found, found[0]))
        elif kind == "phones":
            yield _Piece("phones", found, "{}")  # holds its place in the sentence, has no phones to find
        else:
            word = found.replace("’", "'")
            yield _Piece("word", word, word)


def _stronger(first: str, second: str) -> str:
    return max(first, second, key=lambda mark: _STRENGTH[mark])


def _read_published(text: str) -> Normalized:
    """What the published front end leaves of the text; what it drops is named."""
    ids = published.text_to_sequence(text.strip())[:-1]
    spoken = published.sequence_to_text(ids)
    cleaned = published.english_cleaners(text.strip())
    notes = []
    if "{" in text and "}" in text:
        notes.append("text in {curly braces} is left out: the published symbols hold no phones")
    if dropped := sorted({c for c in cleaned if c not in CHARACTERS or c in (PAD, END)} - set("{}")):
        notes.append(f"left out: {' '.join(dropped)}")
    return Normalized(spoken, tuple(notes))


def _nothing(text: str, notes: Iterable[str]) -> CloningError:
    reason = "; ".join(notes) or "it has no letters and no digits"
    shown = " ".join(text[:200].split())
    shown = shown if len(shown) <= 40 else f"{shown[:40]}..."
    return CloningError(f"the text holds nothing that can be spoken: {shown!r} ({reason}): give it a word to say")
