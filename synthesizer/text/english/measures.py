"""Numbers with a unit in words: percentages, lengths, areas, speeds, feet and inches."""

from __future__ import annotations

import re

from synthesizer.text.english.endings import ends_sentence
from synthesizer.text.english.fractions import MIXED, fraction, half_of
from synthesizer.text.english.number_words import NUMBER, cardinal_of, counted, number_names, number_words
from synthesizer.text.english.vocabulary import pairs

_UNITS = pairs("units")
_BY_SPELLING = {unit.replace(" ", "").replace(".", ""): forms for unit, forms in _UNITS.items()}
_DOTTED = frozenset(
    "in ins ft yd yds mi oz ozs lb lbs gal gals qt qts pt pts tsp tsps tbsp tbsps min mins sec secs hr hrs".split()
)
_DASH = r"\s?(?:–|-|—|to)\s?"
_ARTICLE = re.compile(r"\b[Aa]n? (?:[a-z-]+ to |\S+ (?:\S+ )?(?:by|x) )?$")  # "a 100 W bulb": the singular


def _spelled(unit: str) -> str:
    return re.escape(unit).replace(r"\ ", r"\.?[\s-]?").replace("°", r"°\s?")


_UNIT = "(" + "|".join(_spelled(u) for u in sorted(_UNITS, key=len, reverse=True)) + ")"
_POWER = r"(?:\s?[²³]|\^[23]|[23](?![\w.,]\d|\w)| (?:squared|cubed)\b)"
_MEASURE = re.compile(
    rf"(?<![\w.,/])([-+])?((?:\d+[ -])?\d+/\d+|{NUMBER})(?:{_DASH}({NUMBER}))?(\s?|-)"
    rf"((?:sq|square|cu|cub|cubic)\b\.?[\s-]?)?{_UNIT}({_POWER})?(\.)?(?![\w$']|\.\w)"
)
_PER = re.compile(
    r"(?<=[a-z])\s?(?:/|\bper )\s?(\d{1,3}\s?)?"
    r"(kg|g|mg|km|m|cm|mm|ml|mL|dl|dL|l|L|ft|in|mi|s|sec|min|hr?|mol|gal|second|minute|hour|day|week|month|year|person|"
    rf"night|unit|acre|mile|capita)({_POWER})?(?![\w'])"
)
_INCH_GLUED = re.compile(
    r"(?<=\d) in(?=\s?[²³]|\^[23])|"
    r"(?<=\d)in(?![\w.-])|(?:(?<=[x×]\d)|(?<=[x×]\d\d)|(?<=[x×] \d)|(?<=[x×] \d\d)) in(?=$|[,;)])"
)
_HEIGHT = re.compile(
    r"(?<![\w.])(\d{1,3})(?:'|(\s?-?(?:ft|feet|foot)(?![a-z])\.?,?))\s?-?(\d{1,2}(?:\.\d+| \d/\d{1,2})?)(?!\w*[./]\d)"
    r"(?:(\s?(?:\"|''))|(\s?-?(?:inches|inch|ins?)\b\.?(?!-))|(?![\w'’-]))"
)
_BY_FEET = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)(['\"])\s?[x×]\s?(\d+(?:\.\d+)?)\2")
_BY = re.compile(rf"(?:(?<=[a-z]{{2}})|(?<=\d))\s[x×]\s(?={'|'.join(number_names())})")
_FEET = re.compile(r"(?<![\w.'])(\d+)'(?=[\s,.;]|$)(?!\s*\w+')")
_COMPASS = re.compile(rf"(?<![\w.,])({NUMBER})\s?°\s?([NSEW])\b")
_DIRECTIONS = {"N": "north", "S": "south", "E": "east", "W": "west"}
_POINTS = re.compile(r"(?<![\w.,])(\d+(?:\.\d+)?)[ -]?pt\.?(?=[ -](?:font|type|text|size|bold)\b)")
_RANGE = re.compile(r"(?<=\d)\s?(?:°[CF]?|%)\s?[–-]\s?(?=\d+(?:\.\d+)?\s?[°%])")
_DEGREES = re.compile(r"(?<=\d)( degrees?) ([CF])\b(?!\.\w)")
_BIG_PEOPLE = re.compile(rf"(?<![\w.,-])({NUMBER})m(?= (?:people|users|copies|views|viewers|jobs|men|women)\b)")
_TELEPHONE = re.compile(r"\b[a-z]+[A-Z][a-z]+ $|\b(?:Galaxy|Nokia|Redmi|Nexus) $")  # "iPhone 5s"
_BEFORE_NUMBER = re.compile(r"\s+\d")
_BEFORE_NAME = re.compile(r"\s+[A-Z][a-z]")
_BEFORE_THE = re.compile(r"\s+the\b")
_LONE_PER = re.compile(r"(?<![\w/])(km|m|mi|kg|g|mg|l|L|ml|W|kW)(?=/(?:s|h|hr|min|day|kg|m|l|L|dl|dL)(?:[²³]|\b))")
_HUNDREDS = re.compile(r"(?<![\w.,])(100|1,?000)s(?= of\b)")


def expand_measures(text: str) -> str:
    """Percentages and numbers with a unit; squares, cubes and quotients of units; heights in feet and inches."""
    text = _BIG_PEOPLE.sub(lambda m: f"{number_words(m[1])} million", text)
    text = _HUNDREDS.sub(lambda m: "hundreds" if m[1] == "100" else "thousands", text)
    text = _RANGE.sub(" to ", text)
    text = _DEGREES.sub(lambda m: f"{m[1]} {'Celsius' if m[2] == 'C' else 'Fahrenheit'}", text)
    text = _COMPASS.sub(lambda m: f"{counted(m[1], 'degree', 'degrees')} {_DIRECTIONS[m[2]]}", text)
    text = _POINTS.sub(lambda m: f"{number_words(m[1])} point", text)
    text = _BY_FEET.sub(_by_feet, text)
    text = _HEIGHT.sub(_height, text)
    text = _INCH_GLUED.sub(" in.", text)
    text = _MEASURE.sub(_measure, text)
    text = _FEET.sub(lambda m: counted(m[1], "foot", "feet"), text)
    text = _BY.sub(" by ", text)
    text = _LONE_PER.sub(lambda m: _UNITS[m[1]][1], text)
    return _PER.sub(_per, text)


def _is_adjective(match: re.Match[str]) -> bool:
    return _ARTICLE.search(match.string[max(0, match.start() - 30) : match.start()]) is not None


def _by_feet(match: re.Match[str]) -> str:
    one, many = ("foot", "feet") if match[2] == "'" else ("inch", "inches")
    if _is_adjective(match):
        many = one
    return f"{counted(match[1], one, many)} by {counted(match[3], one, many)}"


def _height(match: re.Match[str]) -> str:
    feet, word, inches, quote, unit = match.groups()
    spoken = MIXED.sub(fraction, inches) if "/" in inches else number_words(inches)
    if int(feet) > 12 and not (unit or quote):
        return match[0]
    if not word:
        return f"{cardinal_of(feet)} foot {spoken}"
    single = _is_adjective(match) or "foot" in word
    if not unit and not quote:
        return f"{cardinal_of(feet)} {'foot' if single else 'feet'} {spoken}"
    last = "inch" if single or inches == "1" else "inches"
    end = "." if unit and unit.endswith(".") and ends_sentence(match.string, match.end(), by_capital=True) else ""
    return f"{cardinal_of(feet)} {'foot' if single or feet == '1' else 'feet'} {spoken} {last}{end}"


def _measure(match: re.Match[str]) -> str:
    sign, first, last, gap, prefix, unit, power, dot = match.groups()
    text, end = match.string, match.end()
    if _is_no_unit(match):
        return match[0]
    one, many = _BY_SPELLING[re.sub(r"[.\s-]", "", unit)]
    if power or prefix:
        cubic = (prefix or "").startswith("cu") or _is_cube(power)
        one, many = _raised(one, cubic), _raised(many, cubic)
    dotted = dot or unit.endswith(".")
    adjective = gap == "-" or _is_adjective(match) or text[end : end + 1] == "-" and text[end + 1 : end + 2].islower()
    spoken = {"-": "minus ", "+": "plus ", None: ""}[sign]
    if "/" in first:
        spoken += half_of(first, adjective)
    else:
        spoken += number_words(first)
    if last:
        spoken += f" to {number_words(last)}"
    single = not last and (first == "1" or "/" in first and " " not in first and "over" not in spoken)
    stop = "." if dotted and _stops(text, end, unit.strip(".")) else ""
    return f"{spoken} {one if adjective or single else many}{stop}"


def _stops(text: str, end: int, unit: str) -> bool:
    """Whether the dot after a unit ends a sentence. "6 ft. 2 in." does not, "5 kg. 3 of them" does."""
    return (_BEFORE_NUMBER.match(text, end) is not None and unit not in _DOTTED) or ends_sentence(
        text, end, by_capital=True
    )


def _is_no_unit(match: re.Match[str]) -> bool:
    _, first, _, gap, _, unit, _, dot = match.groups()
    text, start, end = match.string, match.start(), match.end()
    if unit == "s" and not gap and re.fullmatch(r"\d*0", first):
        return True  # a decade
    if unit == "s" and not gap and _TELEPHONE.search(text[max(0, start - 12) : start]):
        return True
    if unit in ("m", "t") and text[start - 1 : start] in "$£€" and start:
        return True
    if len(unit) == 1 and unit.isupper() and gap:  # an initial, a street: "12 W. Main", "5 L Street"
        return bool(dot) or _BEFORE_NAME.match(text, end) is not None
    return unit in ("ac", "in.") and _BEFORE_THE.match(text, end) is not None


def _per(match: re.Match[str]) -> str:
    number, unit, power = match.groups()
    spoken = _BY_SPELLING.get(unit, (unit,))[0]
    if power:
        spoken = _raised(spoken, _is_cube(power))
    return f" per {cardinal_of(number.strip())} {spoken}s" if number else f" per {spoken}"


def _is_cube(power: str | None) -> bool:
    return (power or "").strip(" ^") in ("³", "3", "cubed")


def _raised(unit: str, cubic: bool) -> str:
    """ "square meter", but "second squared"."""
    if unit.rstrip("s") in ("second", "minute", "hour"):
        return f"{unit} {'cubed' if cubic else 'squared'}"
    return f"{'cubic' if cubic else 'square'} {unit}"
