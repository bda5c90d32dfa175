"""What a text looks like on paper: paragraphs, lines, lists, Markdown. It becomes stretches of plain running text.

A stretch is short (`BLOCK_CHARS`): all that comes after takes bounded time and memory, however long the text is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

CHUNK_CHARS = 10_000  # no regular expression is given more
BLOCK_CHARS = 1000
WRAPPED_CHARS = 40  # lines of at least this width may be broken by an editor rather than by the author
LONGEST_WORD = 100  # letters; longer ones are read in parts of half of it
LONGEST_NUMBER = 40  # digits; longer ones are read digit by digit

_BREAK = re.compile(r"\r\n?|[\u2028\x0b]|<br\s{0,3}/?>|</(?:p|li|h[1-6]|div|tr)>", re.IGNORECASE)
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*|[\f\u2029]")
_WORD = re.compile(rf"[^\W\d_]{{{LONGEST_WORD + 1},}}")
_NUMBER = re.compile(rf"[0-9０-９]{{{LONGEST_NUMBER + 1},}}")

_RULE = re.compile(r"\s{0,3}(?:(?:-\s*){3,}|(?:\*\s*){3,}|(?:_\s*){3,}|={3,})\s*")
_FENCE = re.compile(r"\s{0,3}(?:```|~~~)[\w+-]*\s*")
_DIVIDER = re.compile(r"(?=.*--)[\s|:-]+")
_REFERENCE = re.compile(r"\s{0,3}\[[^\]\n]{1,100}\]:\s*\S+.*")
_HEADING = re.compile(r"\s{0,3}(#{1,6})\s+(?!\d+\s*$)(\S.*?)\s*#*\s*")
_QUOTE = re.compile(r"\s{0,3}((?:>\s?)+)(?![\s\d=])")
_ITEM = re.compile(r"\s*([-*+•‣◦▪])\s+(?:(\[[ xX]\])\s+)?(?=\S)")
_NUMBERED = re.compile(r"\s*(\d{1,3})[.)]\s+(?=\S)")
_CONTINUED = re.compile(r"\s{2,}\S|\t")
_ROW = re.compile(r"\s*\|(.*)\|\s*")

_URL = r"[^()\s]{0,500}(?:\([^()\s]{0,100}\)[^()\s]{0,200})?"
_LINK = re.compile(
    rf"(!?)\[([^\[\]\n]{{0,500}})\](?:\(\s?({_URL})(?:\s+[\"'][^\"'\n]{{0,200}}[\"'])?\s?\)|\[[^\[\]\n]{{0,100}}\])"
)
_FOOTNOTE = re.compile(r"\[\^[^\]\s]{1,50}\]")
_AUTOLINK = re.compile(r"<((?:https?://|mailto:)[^\s<>]{1,2000})>")
_EMPHASIS = re.compile(
    r"(?<![\w*~`\\])(\*{1,3}|_{1,3}|~~|`{1,3})(?![\s*_~`])([^\n]{1,500}?)(?<![\s*_~`\\])\1(?![\w*~`])"
)
_ESCAPED = re.compile(r"\\([*_#`~\[\]>-])")

_MARKED = re.compile(r"[.,;:?!…—–-][\"'”’)\]*_]*$")
_SENTENCE = re.compile(r"[^\W\d_]{3,}[.?!][\"'”’)]?\s+(?=[\"'“‘(]?[A-Z])")


class Block(NamedTuple):
    """A stretch of plain text, and what ends it."""

    text: str
    end: str  # "paragraph", "sentence" or "word"
    notes: tuple[str, ...] = ()


def blocks(text: str) -> Iterator[Block]:
    """The stretches of `text`, in order, each of at most `BLOCK_CHARS` characters; blank ones are left out.

    A line that ends without a mark ends in a comma, a heading and a long list item in a full stop, unless it is prose
    that was wrapped at a fixed width.
    """
    for paragraph, end in _paragraphs(_without_comments(text)):
        noted: dict[str, None] = {}
        plain = _inline(_joined(_lines(paragraph, noted)), noted)
        plain = _NUMBER.sub(lambda m: f" {' '.join(m[0])} ", plain)
        if long := _WORD.search(plain):
            noted[f"\n{len(long[0])}"] = None
            plain = _WORD.sub(lambda m: _parts(m[0]), plain)
        notes = tuple(_summary(noted))
        for block in _split(plain, end):
            yield block._replace(notes=notes)
            notes = ()


def _without_comments(text: str) -> str:
    kept, position = [], 0
    while (start := text.find("<!--", position)) >= 0 and (end := text.find("-->", start + 4)) >= 0:
        kept += [text[position:start], " "]
        position = end + 3
    return "".join([*kept, text[position:]])


def _paragraphs(text: str) -> Iterator[tuple[str, str]]:
    """Paragraphs, and parts of those that are very long, with what ends each."""
    for paragraph in _PARAGRAPH.split(_BREAK.sub("\n", text)):
        start = 0
        while len(paragraph) - start > CHUNK_CHARS:
            end = max(paragraph.rfind(mark, start + 1, start + CHUNK_CHARS) for mark in "\n ") + 1
            end = end or start + CHUNK_CHARS
            yield paragraph[start:end], "word"
            start = end
        if paragraph[start:].strip():
            yield paragraph[start:], "paragraph"


class _Line(NamedTuple):
    text: str
    kind: str = ""  # "heading", "item", "numbered", "row" or "" for running text


def _lines(paragraph: str, noted: dict[str, None]) -> list[_Line]:
    """The lines that hold words, without the marks at their start."""
    written = [line for line in paragraph.split("\n") if line.strip()]
    items = sum(_ITEM.match(line) is not None for line in written)
    lines = []
    for line in written:
        if _RULE.fullmatch(line) or _FENCE.fullmatch(line) or _DIVIDER.fullmatch(line) or _REFERENCE.fullmatch(line):
            noted[line.strip()[:20]] = None
            continue
        if found := _QUOTE.match(line):
            noted[">"] = None
            line = line[found.end() :]
        if found := _HEADING.fullmatch(line):
            noted[found[1]] = None
            lines.append(_Line(found[2], "heading"))
        elif (found := _ITEM.match(line)) and (items > 1 or not line[found.end()].isdigit()):
            noted[found[1]] = None
            lines.append(_Line(line[found.end() :].strip(), "item"))
        elif (found := _NUMBERED.match(line)) and len(written) > 1:
            lines.append(_Line(f"{found[1]}, {line[found.end() :].strip()}", "numbered"))
        elif found := _ROW.fullmatch(line):
            noted["|"] = None
            lines.append(_Line(", ".join(cell.strip() for cell in found[1].split("|") if cell.strip()), "row"))
        elif lines and lines[-1].kind in ("item", "numbered") and _CONTINUED.match(line):
            lines[-1] = lines[-1]._replace(text=f"{lines[-1].text} {line.strip()}")
        else:
            lines.append(_Line(line.strip()))
    return lines


def _joined(lines: list[_Line]) -> str:
    """Lines as one, with a mark where one ends without."""
    width = max((len(line.text) for line in lines), default=0)
    small = sum(line.text[:1].islower() for line in lines[1:])
    even = width >= 1.5 * WRAPPED_CHARS and all(len(line.text) > 0.75 * width for line in lines[:-1])
    prose = even or (width >= WRAPPED_CHARS and 2 * small >= len(lines) - 1)
    pieces = []
    for line, following in zip(lines, [*lines[1:], None], strict=False):
        pieces.append(line.text + ("" if _MARKED.search(line.text) else _mark(line, following, width if prose else 0)))
    return " ".join(pieces)


def _mark(line: _Line, following: _Line | None, width: int) -> str:
    """What a line without a mark at its end gets; width: that of prose that was wrapped, else 0."""
    if line.kind == "heading":
        return "."
    if following is None or (width and not line.kind and not following.kind and len(line.text) > 0.6 * width):
        return ""
    return "." if line.kind and (line.kind != "item" or len(line.text.split()) > 4) else ","


def _inline(text: str, noted: dict[str, None]) -> str:
    """Links by their text, emphasis without its marks."""

    def link(match: re.Match[str]) -> str:
        noted[f"link {match[3]}" if match[3] else match[0][len(match[2]) + 2 :]] = None
        return match[2]

    def emphasis(match: re.Match[str]) -> str:
        noted[match[1]] = None
        return match[2]

    def dropped(match: re.Match[str]) -> str:
        noted[match[0]] = None
        return ""

    text = _LINK.sub(link, text)
    text = _FOOTNOTE.sub(dropped, text)
    text = _AUTOLINK.sub(r"\1", text)
    for _ in range(3):  # one within another
        text = _EMPHASIS.sub(emphasis, text)
    return _ESCAPED.sub(r"\1", text)


def _parts(word: str) -> str:
    half = LONGEST_WORD // 2
    return " ".join(word[i : i + half] for i in range(0, len(word), half))


def _summary(noted: dict[str, None]) -> list[str]:
    long = [mark.strip() for mark in noted if mark.startswith("\n")]
    marks = [mark for mark in noted if not mark.startswith("\n")]
    lines = [f"Markdown left out: {', '.join(marks)}"] if marks else []
    return lines + [f"a word of {count} letters is read in parts" for count in long[:1]]


def _split(text: str, last: str) -> Iterator[Block]:
    """`text` in stretches: cut after a sentence where that is possible, else between words, else anywhere."""
    start = 0
    while len(text) - start > BLOCK_CHARS:
        end, how = start + BLOCK_CHARS, "word"
        sentences = [m.end() for m in _SENTENCE.finditer(text, start + BLOCK_CHARS // 4, end)]
        if sentences:
            end, how = sentences[-1], "sentence"
        elif (space := text.rfind(" ", start + 1, end)) > 0:
            end = space + 1
        brace = text.rfind("{", start, end)
        if brace > start and "}" not in text[brace:end]:  # an inline pronunciation stays whole
            end, how = brace, "word"
        yield Block(text[start:end], how)
        start = end
    if text[start:].strip():
        yield Block(text[start:], last)
