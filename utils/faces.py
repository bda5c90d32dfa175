"""A face for every voice: a small drawing that depends on the name alone, and shows nobody."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

_SKIN = ("#f6d7bd", "#e8b894", "#c98f63", "#9c6a43", "#6e452b")
_HAIR = ("#2b2320", "#5a3a22", "#8f5a2a", "#c99a4b", "#a8a29c", "#7a2f22")
_GROUND = ("#1f6f6b", "#8a4f7d", "#3b5b92", "#a35d2d", "#5c7a3a", "#7a4b4b")
_SHAPES = (  # of hair
    "M16 30a16 17 0 0 1 32 0q-4-9-16-9t-16 9z",
    "M15 46V29a17 17 0 0 1 34 0v17h-5V30q-12-1-17-8-3 7-7 9v15z",
    "M15 31q0-18 18-18 15 0 15 18-2-6-7-9-10 5-19 2-5 2-7 7z",
    "M32 6a7 7 0 0 1 6 8q10 4 10 17-6-10-16-10t-16 10q0-13 10-17a7 7 0 0 1 6-8z",
)
_MOUTHS = ("M26 43q6 5 12 0", "M27 44h10", "M26 42q6 8 12 0z")


def face(name: str) -> str:
    """An SVG of 64 x 64 (under 1 kB); the same name has the same face, on every machine."""
    digits = hashlib.sha256(f"face {name.lower()}".encode()).digest()

    def pick(place: int, choices: Sequence[str]) -> str:
        return choices[digits[place] % len(choices)]

    glasses = '<path d="M20 33h9v6h-9zM35 33h9v6h-9zM29 35h6" fill="none" stroke="#333"/>' if digits[5] % 4 == 0 else ""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">'
        f'<rect width="64" height="64" rx="14" fill="{pick(0, _GROUND)}"/>'
        f'<path d="M10 64q2-14 22-14t22 14z" fill="{pick(1, _GROUND[::-1])}" stroke="#fbfaf7"/>'
        f'<ellipse cx="32" cy="35" rx="14" ry="17" fill="{pick(2, _SKIN)}"/>'
        f'<path d="{pick(3, _SHAPES)}" fill="{pick(4, _HAIR)}"/>'
        f'<path d="M24 36h2M38 36h2" stroke="#222" stroke-width="3" stroke-linecap="round"/>{glasses}'
        f'<path d="{pick(6, _MOUTHS)}" fill="none" stroke="#7a2f2f" stroke-width="2" stroke-linecap="round"/></svg>\n'
    )
