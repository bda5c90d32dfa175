"""Settings: frozen dataclasses in, frozen dataclasses out; an unknown name is an error.

A preset is a TOML file in `configs/<stage>/` that holds only what differs from the dataclass defaults, or, with
`base = "name"`, from another preset of its folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import logging
import math
import re
import sys
import textwrap
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from utils.errors import CloningError
from utils.files import require_checkout

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

log = logging.getLogger(__name__)
T = TypeVar("T", bound="DataclassInstance")
CONFIGS = Path(__file__).resolve().parent.parent / "configs"
_MOST_VALUES = 64  # of one setting
_ASSIGNMENT = re.compile(r"[A-Za-z_][\w.]*=")


class SettingsParser(argparse.ArgumentParser):
    """A command line with `--set a=1 b=2`, several times if need be; they become the list `settings`.

    argparse's own nargs="+" would take a positional argument after them for one of them.
    """

    def add_settings(self, about: str) -> None:
        """Add `--set`."""
        self.add_argument(
            "--set", action="append", default=[], metavar="NAME=VALUE", dest="settings", help=f"{about} (one or more)"
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:  # type: ignore[override]
        spread: list[str] = []
        for word in sys.argv[1:] if args is None else args:
            after = spread[-2:-1] == ["--set"] or spread[-1:] and spread[-1].startswith("--set=")
            spread += ["--set", word] if after and _ASSIGNMENT.match(word) else [word]
        return super().parse_known_args(spread, namespace)


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as nested plain dictionaries (tuples become lists), ready for JSON."""
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


def from_dict(cls: type[T], data: Mapping[str, Any] | None, where: str = "") -> T:
    """Build `cls` from nested dictionaries; fields that `data` lacks keep their defaults.

    Raises CloningError for an unknown name, a wrong type, or a value that the dataclass refuses; `where` is the group
    in which its names stand, "" for none.
    """
    if not isinstance(data, Mapping):
        raise CloningError(f"{where or 'the whole'} is a group of settings, not {data!r}")
    inside = f"{where}." if where else ""
    hints = typing.get_type_hints(cls)
    data = current_names(cls, data)
    known = {f.name for f in dataclasses.fields(cls) if f.init}
    for name, kept in getattr(cls, "REMOVED", {}).items():
        if name in data:
            raise CloningError(f"{inside}{name} is {data[name]!r}, which is no longer supported: only {kept[0]!r} is")
    if unknown := sorted(set(data) - known):
        raise CloningError(f"unknown settings {unknown}{where and f' of {where}'}; there are {sorted(known)}")
    values = {name: _convert(hints[name], value, f"{inside}{name}") for name, value in data.items()}
    try:
        return cls(**values)
    except (ValueError, TypeError) as error:
        raise CloningError(f"{where}: {error}" if where else str(error)) from error


def current_names(cls: type, data: Mapping[str, Any], note: bool = False) -> dict[str, Any]:
    """`data` with settings that have an older name, by `RENAMED` of their dataclass, under the one they have now.

    Left out are those that are no more, with one of the values in `REMOVED`, at which the code does the same without.
    A dataclass may also bring older settings into the form of now by its function `upgraded`.
    note: say in the log what is called otherwise now.
    """
    names: Mapping[str, str] = getattr(cls, "RENAMED", {})
    removed: Mapping[str, tuple[Any, ...]] = getattr(cls, "REMOVED", {})
    data = cls.upgraded(data) if hasattr(cls, "upgraded") else data
    hints, found = typing.get_type_hints(cls), {}
    for name, value in data.items():
        if name in removed and value in removed[name]:
            continue
        if name in names and note:
            log.warning("the setting %s is called %s now", name, names[name])
        name = names.get(name, name)
        nested = dataclasses.is_dataclass(hints.get(name)) and isinstance(value, Mapping)
        found[name] = current_names(hints[name], value, note) if nested else value
    return found


def check_ranges(config: Any, **ranges: tuple[float, float]) -> None:
    """Raises ValueError for a field outside of (lowest, highest), both allowed; every value of a tuple counts.

    A checkpoint's settings come from anywhere: a number without a limit is one that can ask for all memory.
    """
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if value is None:
            continue
        values = value if isinstance(value, tuple) else (value,)
        if not 1 <= len(values) <= _MOST_VALUES:
            raise ValueError(f"{name} has {len(values)} values; it must have 1 to {_MOST_VALUES}")
        for number in values:
            if not low <= number <= high:
                raise ValueError(f"{name} is {number}; it must be {low:_} to {high:_}")


def check_rising(config: Any, *names: str) -> None:
    """Raises ValueError for a field of (lowest, highest) whose first number is above its second."""
    for name in names:
        low, high = getattr(config, name)
        if low > high:
            raise ValueError(f"{name} is {low}, {high}: the first number may not be above the second")


def override(config: T, **changes: Any) -> T:
    """`config` with some fields replaced; an unknown name is an error that lists the known ones."""
    return from_dict(type(config), {**to_dict(config), **changes})


def load_config(cls: type[T], stage: str, preset: str | Path | None, assignments: Iterable[str] = ()) -> T:
    """`cls` from a preset (a name in `configs/<stage>/` or a path to a TOML file) and `a.b=value` assignments.

    Values of assignments are TOML (`model.dropout=0.1`, `name="x"`); a bare word is taken as a string.
    Raises CloningError for a preset that is not there and for an unknown or refused setting.
    """
    data: dict[str, Any] = {}
    if preset is not None:
        path = Path(preset)
        if path.suffix != ".toml":
            path = CONFIGS / stage / f"{preset}.toml"
        if not path.is_file():
            require_checkout(CONFIGS)
            raise CloningError(f"no preset {str(preset)!r}: give a .toml file or one of {[*presets(stage)]}")
        data = read_preset(path)
    for assignment in assignments:
        assign(data, assignment)
    return from_dict(cls, current_names(cls, data, note=True))


def read_preset(path: Path) -> dict[str, Any]:
    """The settings of a preset's file, over those of its `base`, if it names one.

    Raises CloningError for a base that is not there, and for one that has a base itself: one level is all that a reader
    has to follow.
    """
    data = read_toml(path)
    name = data.pop("base", None)
    if name is None:
        return data
    below = path.parent / f"{name}.toml"
    if not isinstance(name, str) or not below.is_file():
        there = sorted(other.stem for other in path.parent.glob("*.toml") if other != path)
        raise CloningError(f"{path}: base is {name!r}, and the folder has no such preset; it has {there}")
    whole = read_toml(below)
    if "base" in whole:
        raise CloningError(f"{path}: base {name!r} has a base itself, {whole['base']!r}: name a preset that has none")
    return _merged(whole, data)


def presets(stage: str) -> dict[str, str]:
    """The presets in `configs/<stage>/` by name, each with the first sentence of the comment that it begins with."""
    found = {}
    for path in sorted((CONFIGS / stage).glob("*.toml")):
        lines = path.read_text(encoding="utf-8").splitlines()
        comment = " ".join(line.lstrip("# ") for line in itertools.takewhile(lambda line: line.startswith("#"), lines))
        found[path.stem] = comment.partition(". ")[0].rstrip(".")
    return found


def list_presets(stage: str) -> str:
    """The paragraph of a script's help on the presets in `configs/<stage>/`."""
    if not CONFIGS.is_dir():
        return f"\nno presets: {CONFIGS} is not there\n"
    found = presets(stage)
    width = max(map(len, found), default=0)
    lines = (
        textwrap.fill(f"  {name:{width}}  {about}", 118, subsequent_indent=" " * (width + 4))
        for name, about in found.items()
    )
    return "\n".join([f"\npresets in configs/{stage}/:", *lines, ""])


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as dictionaries; CloningError names the line that does not parse."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CloningError(f"{path}: not TOML: {error}") from error


def assign(data: dict[str, Any], assignment: str) -> None:
    """Put `a.b=value` into nested dictionaries; CloningError for what is not of that form."""
    name, equals, text = assignment.partition("=")
    if not equals or not name.strip():
        raise CloningError(f"{assignment!r} is not name=value, such as training.steps=1000")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = name.strip().split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise CloningError(f"{assignment!r}: {parent} is a value, not a group of settings")
    data[last] = value


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings of `below`, replaced or completed by those of `above`."""
    both = {**below, **above}
    return {
        name: _merged(below[name], value) if isinstance(value, dict) and isinstance(below.get(name), dict) else value
        for name, value in both.items()
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        hint = next(a for a in arguments if a is not type(None))
        return _convert(hint, value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise CloningError(f"{where} is {value!r}; it must be one of {list(arguments)}")
        return value
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if isinstance(value, hint):
            return value
        return from_dict(hint, value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise CloningError(f"{where} must be a list, got {value!r}")
        element = arguments[0]
        if len(arguments) == 2 and arguments[1] is not Ellipsis and len(value) != 2:
            raise CloningError(f"{where} must have 2 values, got {value!r}")
        return tuple(_convert(element, v, where) for v in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        value = float(value)
    if hint is float and isinstance(value, float) and not math.isfinite(value):
        raise CloningError(f"{where} must be a finite number, got {value!r}")
    if hint in (int, float, str, bool) and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
        raise CloningError(f"{where} must be {hint.__name__}, got {value!r}")
    return value
