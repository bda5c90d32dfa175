"""Symbol tables: what an id stands for. The order is part of a checkpoint's meaning, so it never changes.

`characters` is the table of the published SV2TTS checkpoints (66 entries). `phonemes` starts with the same two
special symbols, then the marks that can stand between words, then the phones of the language.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from utils.errors import CloningError

PAD = "_"  # id 0 in every table
END = "~"  # id 1 in every table
SILENCE = "SIL"
WORD_BOUNDARY = " "  # takes no time
PAUSE = ","  # any pause inside an utterance, for networks that learn from alignments

CHARACTERS: tuple[str, ...] = (
    PAD,
    END,
    *"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    *"abcdefghijklmnopqrstuvwxyz",
    *"!'\"(),-.:;? ",
)

# Marks that stand for a pause or a melody; between two words stands exactly one of them or a boundary.
PAUSES: tuple[str, ...] = (",", ".", "?", "!", ";", ":", "-")

ARPABET_VOWELS: tuple[str, ...] = tuple("AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split())
ARPABET_CONSONANTS: tuple[str, ...] = tuple("B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH".split())
ARPABET: tuple[str, ...] = tuple(sorted(ARPABET_VOWELS + ARPABET_CONSONANTS))  # the 39 phones, without stress
ARPABET_STRESSED: tuple[str, ...] = tuple(f"{vowel}{stress}" for vowel in ARPABET_VOWELS for stress in "012")


def phoneme_table(phones: Iterable[str]) -> tuple[str, ...]:
    """The symbols of the set `phonemes` for a language with these phones: 11 shared ones, then its own."""
    return (PAD, END, *PAUSES, WORD_BOUNDARY, SILENCE, *phones)


class SymbolTable:
    """A fixed order of symbols: `symbols[id]`, `table.ids[symbol]`, `len(table)`."""

    def __init__(self, symbols: Sequence[str]) -> None:
        """Raises ValueError when the first two are not pad and end, or a symbol stands there twice."""
        self.symbols: tuple[str, ...] = tuple(symbols)
        self.ids: dict[str, int] = {symbol: index for index, symbol in enumerate(self.symbols)}
        if self.symbols[:2] != (PAD, END):
            raise ValueError(f"a symbol table starts with {PAD!r} and {END!r}, got {list(self.symbols[:2])}")
        if len(self.ids) != len(self.symbols):
            raise ValueError("a symbol stands twice in the symbol table")

    def __len__(self) -> int:
        return len(self.symbols)

    @property
    def symbol_set(self) -> str:
        """ "characters" or "phonemes"."""
        return "characters" if self.symbols == CHARACTERS else "phonemes"

    def encode(self, symbols: Iterable[str], *, end: bool = True) -> list[int]:
        """Symbols to ids, with the end symbol after them. Raises CloningError naming symbols that are not there."""
        symbols = list(symbols)
        if unknown := sorted({s for s in symbols if s not in self.ids}):
            raise CloningError(f"unknown symbols {unknown}: the table has {' '.join(self.symbols[2:])}")
        return [self.ids[s] for s in symbols] + ([self.ids[END]] if end else [])

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Ids to symbols; padding is left out."""
        return [self.symbols[i] for i in ids if i != 0]

    def differences(self, other: Sequence[str]) -> list[str]:
        """What is different in another table, as "id 7: 'AA' != 'AE'" (empty when they are the same)."""
        found = [f"id {i}: {a!r} != {b!r}" for i, (a, b) in enumerate(zip(self.symbols, other, strict=False)) if a != b]
        if len(self.symbols) != len(other):
            found.append(f"size: {len(self.symbols)} != {len(other)}")
        return found
