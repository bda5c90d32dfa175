"""Texts by chance: what people paste, cut, repeated and mixed with what no keyboard has."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

PIECES = (
    "Hello there.", "Dr. Smith paid $3.50 on 3/4/2021 at 5:30pm", "http://a.b/c?d=e&f", "me@x.org",
    "<b>bold</b>", "&amp;", "&#x41;", "&#99999999;", "{HH AH0 L OW1}", "{", "}", "[a](b)", "**", "~~", "`x`",
    "# T\n", "> q\n", "- i\n", "| a | b |\n", "1,000,000", "1e999", "0x1F", "MCMXCIX", "½", "²", "Ⅷ", "IIII",
    "…", "—", "\u200b", "\u202e", "\ufeff", "\u0301" * 9,
    "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"), "é", "ß", "ﬁ", "Ω", "你好", "привет",
    "مرحبا", "\x00", "\x1b[31m", "\r\n", "\t", "\v", "\u2028", "\U000e0041", "'", '"', "“", "(", ")))", "!!!",
    "?!", "...", "-", "--", "a", "I", "A.B.", "x" * 300, "9" * 300, "://", "$", "%", "€1.000,00", "+49 (0)30",
    "1:2:3", "v1.2.3", "C#", "100%", "#tag", "@name", "\\n", "\\", "NaN",
)  # fmt: skip


def use(path: str) -> None:
    """All that the front ends of our symbols and of the published ones make of a text file."""
    from synthesizer.text.processor import PUBLISHED, TextProcessor
    from utils.files import read_text

    text = read_text(Path(path), path)
    for config in (PUBLISHED, "phonemes"):
        processor = TextProcessor(config)
        for sentence in processor.sentences(text):
            assert 0 < len(processor.encode(sentence.text)) < 10_000


def mutations(folder: Path, count: int, seed: int = 0) -> Iterator[Path]:
    """`count` text files of up to some thousand characters, some with bytes that are not UTF-8."""
    draw = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pieces = draw.choices(PIECES, k=draw.choice((1, 2, 5, 30)))
        pieces = [piece * draw.choice((1, 1, 1, 1, 12)) for piece in pieces]
        pieces += [chr(draw.randrange(0xD800)) for _ in range(draw.choice((0, 0, 3)))]
        draw.shuffle(pieces)
        content = draw.choice(("", " ", "\n")).join(pieces).encode()
        if draw.random() < 0.1:
            place = draw.randrange(len(content))
            content = content[:place] + bytes([draw.randrange(128, 256)]) + content[place:]
        path = folder / f"{number:05d}.txt"
        path.write_bytes(content)
        yield path
