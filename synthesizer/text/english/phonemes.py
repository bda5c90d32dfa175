"""English words to ARPAbet phones with stress, as CMUdict writes them: HELLO -> HH AH0 L OW1.

Looked up in the user's lexicon, in `spoken.txt` (how running speech says common words), in gruut's English
lexicon (MIT; 124,000 words derived from CMUdict, in IPA), then by suffix ("blogger's" = "blogger" + Z), and guessed by
gruut's grapheme-to-phoneme model at last. gruut is no longer developed: all that is taken of it goes through `_gruut`.
Words with several pronunciations: `synthesizer.text.english.heteronyms`, then gruut's part-of-speech tagger.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from synthesizer.text.english import heteronyms
from synthesizer.text.languages import Lexicon
from synthesizer.text.symbols import ARPABET, ARPABET_STRESSED, ARPABET_VOWELS
from utils.errors import CloningError, missing_package

_A_LETTER = "a(letter)"  # the name of the letter; "a" is the article
_LETTERS = {_A_LETTER: ("EY1",), "a's": ("EY1", "Z")}

Phones = tuple[str, ...]

_IPA_CONSONANTS = {
    "b": "B", "t͡ʃ": "CH", "d": "D", "ð": "DH", "f": "F", "ɡ": "G", "g": "G", "h": "HH", "d͡ʒ": "JH", "k": "K",
    "l": "L", "m": "M", "n": "N", "ŋ": "NG", "p": "P", "ɹ": "R", "r": "R", "s": "S", "ʃ": "SH", "t": "T",
    "ɾ": "T", "θ": "TH", "v": "V", "w": "W", "j": "Y", "z": "Z", "ʒ": "ZH",
}  # fmt: skip
_IPA_VOWELS = {
    "ɑ": "AA", "æ": "AE", "ə": "AH", "ʌ": "AH", "ɔ": "AO", "aʊ": "AW", "aɪ": "AY", "ɛ": "EH", "ɚ": "ER",
    "ɝ": "ER", "eɪ": "EY", "ɪ": "IH", "i": "IY", "oʊ": "OW", "ɔɪ": "OY", "ʊ": "UH", "u": "UW",
}  # fmt: skip

# Words that change with what follows: (before a consonant, before a vowel, before a pause).
_WEAK_FORMS = {
    "the": ("DH AH0", "DH IY0", "DH AH0"),
    "to": ("T AH0", "T UW1", "T UW1"),
    "for": ("F ER0", "F ER0", "F AO1 R"),
}
_PARTS_OF_SPEECH = {  # Penn tags to the roles of the lexicon, best first
    "VBD": ("VBD", "VB"), "VBN": ("VBD", "VB"), "VB": ("VB",), "VBP": ("VB",), "VBZ": ("VB",), "VBG": ("VB",),
    "NN": ("NN",), "NNS": ("NN",), "NNP": ("NN",), "NNPS": ("NN",), "JJ": ("JJ", "NN"), "JJR": ("JJ", "NN"),
    "JJS": ("JJ", "NN"), "RB": ("RB", "JJ"), "MD": ("VB",),
}  # fmt: skip
_UNVOICED = frozenset("P T K F TH".split())
_SIBILANT = frozenset("S Z SH ZH CH JH".split())


def pronounce(words: Sequence[str], lexicon: Lexicon) -> list[list[str]]:
    """Phones with stress for each word of a sentence; marks among the words give an empty list."""
    tags: Sequence[str] | None = None
    phones: list[list[str]] = []
    for index, written in enumerate(words):
        word = _A_LETTER if _names_a_letter(words, index) else written.lower()
        if not any(c.isalpha() for c in word):
            phones.append([])
            continue
        if word in lexicon:
            phones.append(list(lexicon[word]))
            continue
        if chosen := heteronyms.choose(words, index):
            phones.append(list(chosen))
            continue
        roles = _roles(word)
        if word in _spoken() or len(roles) < 2:
            phones.append(list(_pronounce_alone(word)))
            continue
        if tags is None:
            tags = _gruut("tagger")(words)
        phones.append(list(_by_role(roles, tags[index])))
    for index, written in enumerate(words):
        word = written.lower()
        if word in _WEAK_FORMS and word not in lexicon:
            following = phones[index + 1][:1] if index + 1 < len(words) else []
            vowel = bool(following) and without_stress(following[0]) in ARPABET_VOWELS
            phones[index] = _WEAK_FORMS[word][1 if vowel else 0 if following else 2].split()
    return phones


def _names_a_letter(words: Sequence[str], index: int) -> bool:
    """Whether a capital A is the letter: always inside a sentence, but for titles ("Once Upon A Time"); at its start
    beside another lone capital ("A B C"), before a mark, and before words that no article stands before ("A is for").
    """
    if words[index] != "A":
        return False
    before = words[index - 1] if index else "."
    after = words[index + 1] if index + 1 < len(words) else "."
    if any(len(w) == 1 and w.isupper() for w in (before, after)) or not _is_word(after):
        return True
    if not _is_word(before):
        return after.lower() in _AFTER_LETTER
    return not (before[0].isupper() and after[0].isupper() and before.lower() not in _BEFORE_LETTER)


def _is_word(piece: str) -> bool:
    return piece == "{}" or any(c.isalpha() for c in piece)


_AFTER_LETTER = frozenset("is was stands comes means or and to in for flat minor major sharp plus minus equals".split())
_BEFORE_LETTER = frozenset(
    "plan vitamin grade type class section appendix figure team group hepatitis point model part level series block "
    "option route room gate schedule exhibit table unit letter player person case answer column line list side "
    "string".split()
)


def is_known(word: str) -> bool:
    """Whether the dictionary has the word, or the word less a regular ending."""
    word = word.lower()
    return word in _spoken() or _lookup(word) is not None or _by_suffix(word) is not None


def is_listed(word: str) -> bool:
    """Whether the dictionary has this very word."""
    return _lookup(word.lower()) is not None


def without_stress(phone: str) -> str:
    """ "AH0" -> "AH"."""
    return phone.rstrip("012")


def from_ipa(symbol: str) -> Phones:
    """One symbol of gruut's IPA to ARPAbet: "ˈoʊ" -> ("OW1",). Raises KeyError for one that is not English."""
    stress = {"ˈ": "1", "ˌ": "2"}.get(symbol[0], "0")
    bare = symbol.lstrip("ˈˌ").rstrip("ː")
    if bare in _IPA_CONSONANTS:
        return (_IPA_CONSONANTS[bare],)
    return (_IPA_VOWELS[bare] + stress,)


def read_lexicon(path: str | Path, phones: Sequence[str] = ARPABET + ARPABET_STRESSED) -> dict[str, Phones]:
    """A user's lexicon: lines of `word  PH PH PH`; `#` and `;;;` start comments; the first entry of a word counts.

    Raises CloningError with the line's number for a line without phones or with a phone that is not in `phones`.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise CloningError(f"no lexicon at {path}: give a text file with lines `word  PH PH PH`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CloningError(f"{path}: not a readable UTF-8 text file: {error}") from error
    lexicon: dict[str, Phones] = {}
    for number, line in enumerate(lines, start=1):
        word, *found = re.sub(r"(#|;;;).*", "", line).split() or [""]
        if not word:
            continue
        if not found:
            raise CloningError(f"{path}, line {number}: no phones after {word!r}: write `word  PH PH PH`")
        where, word = f"{path}, line {number}", re.sub(r"\(\d+\)$", "", word.lower())
        if not word.replace("'", "").isalpha():
            raise CloningError(f"{where}: {word!r} is no word of letters and apostrophes: write it as it is spoken")
        lexicon.setdefault(word, check_phones(found, where, phones))
    return lexicon


def check_phones(found: Sequence[str], where: str, phones: Sequence[str] = ARPABET + ARPABET_STRESSED) -> Phones:
    """`found` as the language writes its phones. Raises CloningError naming the first that is not one."""
    checked = tuple(phone if phone in phones else phone.upper() for phone in found)
    for phone in checked:
        if phone not in phones:
            known = " ".join(p for p in phones if not p[-1].isdigit())
            stress = ", vowels with 0, 1 or 2 for stress" if "AH0" in phones else ""
            raise CloningError(f"{where}: {phone!r} is not a phone: use {known}{stress}")
    return checked


# --- the dictionary -------------------------------------------------------------------------------------------------


@lru_cache(maxsize=50_000)
def _pronounce_alone(word: str) -> Phones:
    if word in _LETTERS:
        return _LETTERS[word]
    if word in _spoken():
        return _spoken()[word]
    found = _lookup(word) or _by_suffix(word)
    return found or _guess(word)


def _lookup(word: str) -> Phones | None:
    entries = _words().get(word)
    if entries is None and word.startswith("'"):
        entries = _words().get(word[1:])
    return _convert(entries[0][1]) if entries else None


def _roles(word: str) -> list[tuple[str, str]]:
    entries = _words().get(word, [])
    return entries if len({role for role, _ in entries if role}) > 1 else []


def _by_role(entries: list[tuple[str, str]], tag: str) -> Phones:
    for role in _PARTS_OF_SPEECH.get(tag, ()):
        for entry_role, ipa in entries:
            if entry_role == f"gruut:{role}":
                return _convert(ipa)
    return _convert(entries[0][1])


def _by_suffix(word: str) -> Phones | None:
    """Regular endings of a listed word: -'s, -s, -es, -ed, -ing, -ly, -ness, un-."""
    for suffix, ending in (("'s", _plural), ("s'", _plural), ("s", _plural), ("es", _plural), ("ed", _past)):
        stem = _lookup(word[: -len(suffix)]) if word.endswith(suffix) else None
        if stem is None and suffix == "ed" and word.endswith("ed"):
            stem = _lookup(word[:-1])
        if stem and len(word) - len(suffix) > 1:
            return ending(stem)
    for suffix, phones in _SUFFIXES.items():
        if word.endswith(suffix) and len(word) - len(suffix) > 2:
            stem = _lookup(word[: -len(suffix)]) or (_lookup(word[: -len(suffix)] + "e") if suffix == "ing" else None)
            if stem:
                return stem + phones
    if word.startswith("un") and len(word) > 5 and (stem := _lookup(word[2:])):
        return ("AH0", "N", *stem)
    return None


_SUFFIXES: dict[str, Phones] = {
    "ing": ("IH0", "NG"),
    "ly": ("L", "IY0"),
    "ness": ("N", "AH0", "S"),
    "less": ("L", "AH0", "S"),
    "ment": ("M", "AH0", "N", "T"),
    "like": ("L", "AY2", "K"),
}


def _plural(stem: Phones) -> Phones:
    if stem[-1] in _SIBILANT:
        return (*stem, "IH0", "Z")
    return (*stem, "S" if stem[-1] in _UNVOICED else "Z")


def _past(stem: Phones) -> Phones:
    if stem[-1] in ("T", "D"):
        return (*stem, "IH0", "D")
    return (*stem, "T" if stem[-1] in _UNVOICED or stem[-1] in ("S", "SH", "CH") else "D")


def _guess(word: str) -> Phones:
    letters = re.sub(r"[^a-z']", "", word)
    if not letters.strip("'"):
        return ()
    return tuple(phone for symbol in _gruut("guesser")(letters.strip("'")) for phone in from_ipa(symbol))


@cache
def _convert(ipa: str) -> Phones:
    return tuple(phone for symbol in ipa.split() for phone in from_ipa(symbol))


@cache
def _spoken() -> dict[str, Phones]:
    return read_lexicon(Path(__file__).with_name("spoken.txt"))


# --- gruut ----------------------------------------------------------------------------------------------------------


def _words() -> dict[str, list[tuple[str, str]]]:
    """word -> its (role, IPA) entries in order."""
    return _gruut("words")


@cache
def _gruut(part: Literal["words", "guesser", "tagger"]) -> Any:
    """What is taken from gruut: its lexicon, its guesser (word -> IPA symbols), its tagger (words -> Penn tags)."""
    try:
        from gruut_lang_en import get_lang_dir
    except ModuleNotFoundError as error:
        raise missing_package("gruut", "phoneme input", "requirements.txt") from error
    folder = Path(get_lang_dir())
    if part == "guesser":
        from gruut.g2p import GraphemesToPhonemes

        return GraphemesToPhonemes(folder / "g2p" / "model.crf")
    if part == "tagger":
        from gruut.pos import PartOfSpeechTagger

        return PartOfSpeechTagger(folder / "pos" / "model.crf")
    words: dict[str, list[tuple[str, str]]] = {}  # all at once: the table has no index, so that one look-up scans it
    with closing(sqlite3.connect(f"{(folder / 'lexicon.db').as_uri()}?mode=ro", uri=True)) as connection:
        for word, role, ipa in connection.execute("SELECT word, role, phonemes FROM word_phonemes ORDER BY id"):
            words.setdefault(word, []).append((role, ipa))
    return words
