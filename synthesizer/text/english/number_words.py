"""English number words: cardinals, ordinals, years, digits. Plain functions on integers and digit strings."""

from __future__ import annotations

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
_THOUSANDS = (
    "thousand million billion trillion quadrillion quintillion sextillion septillion octillion nonillion decillion"
).split()
_IRREGULAR_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip
NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"  # a regular expression
LARGEST = 1000 ** (len(_THOUSANDS) + 1)


def number_names() -> list[str]:
    """The words that a number may begin with."""
    return [*_ONES, *_TENS[2:]]


def cardinal(number: int, *, separator: str = " ", conjunction: str = "") -> str:
    """1234 -> "one thousand two hundred thirty-four".

    separator stands between groups of three digits; conjunction ("and") before the last two digits. From
    `LARGEST` on there are no names, and the digits are read one by one.
    """
    if number < 0:
        return f"minus {cardinal(-number, separator=separator, conjunction=conjunction)}"
    if number >= LARGEST:
        return digits(str(number))
    if number == 0:
        return _ONES[0]
    join = f" {conjunction} " if conjunction else " "
    groups: list[str] = []
    rest, scale = number, 0
    while rest:
        rest, group = divmod(rest, 1000)
        if group:
            groups.insert(0, _below_thousand(group, join) + (f" {_THOUSANDS[scale - 1]}" if scale else ""))
        scale += 1
    if len(groups) > 1 and 0 < number % 1000 < 100:  # "three thousand one": no comma before a lone last word
        return separator.join(groups[:-1]) + join + groups[-1]
    return separator.join(groups)


def cardinal_of(text: str, **options: str) -> str:
    """The cardinal of a string of digits, however long."""
    return cardinal(int(text), **options) if len(text) <= 40 else digits(text)


def ordinal(number: int) -> str:
    """21 -> "twenty-first"."""
    return ordinal_of_words(cardinal(number))


def ordinal_of_words(words: str) -> str:
    """ "twenty-one" -> "twenty-first"."""
    cut = max(words.rfind(" "), words.rfind("-")) + 1
    head, last = words[:cut], words[cut:]
    if last in _IRREGULAR_ORDINALS:
        return head + _IRREGULAR_ORDINALS[last]
    return head + (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")


def year(number: int) -> str:
    """1999 -> "nineteen ninety-nine", 1905 -> "nineteen oh five", 2005 -> "two thousand five"."""
    high, low = divmod(number, 100)
    if not 1000 <= number <= 9999 or number % 1000 < 10:
        return cardinal(number)
    if low == 0:
        return f"{cardinal(high)} hundred"
    return f"{cardinal(high)} {'oh ' if low < 10 else ''}{cardinal(low)}"


def digits(text: str, *, zero: str = "zero") -> str:
    """The digits of `text` one by one; everything else in it is passed over."""
    return " ".join(zero if c == "0" else _ONES[int(c)] for c in text if c in "0123456789")


def decimal(text: str) -> str:
    """ "3.14" -> "three point one four"; a whole number is a cardinal; ".5" -> "zero point five"."""
    whole, point, fraction = text.partition(".")
    words = cardinal_of(whole or "0")
    return f"{words} point {digits(fraction)}" if point and fraction else words


def number_words(text: str) -> str:
    """ "1,234.5" -> words; leading zeros are read one by one ("007")."""
    plain = text.replace(",", "")
    return digits(plain) if len(plain) > 1 and plain[0] == "0" and plain.isdigit() else decimal(plain)


def counted(number: str, one: str, many: str) -> str:
    """ "2.5", "euro", "euros" -> "two point five euros"."""
    return f"{number_words(number)} {one if number == '1' else many}"


def plural(words: str) -> str:
    """The plural of the last word: "ninety" -> "nineties", "six" -> "sixes"."""
    if words.endswith("y") and words[-2] not in "aeiou":
        return f"{words[:-1]}ies"
    return words + ("es" if words.endswith(("x", "s", "ch", "sh")) else "s")


def _below_thousand(number: int, join: str) -> str:
    hundreds, rest = divmod(number, 100)
    parts = []
    if hundreds:
        parts.append(f"{_ONES[hundreds]} hundred")
    if rest:
        parts.append(_below_hundred(rest))
    return join.join(parts)


def _below_hundred(number: int) -> str:
    if number < 20:
        return _ONES[number]
    tens, ones = divmod(number, 10)
    return _TENS[tens] + (f"-{_ONES[ones]}" if ones else "")
