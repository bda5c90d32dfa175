"""Corpora on disk: the layout is recognized, not asked for."""

from utils.data.corpora.layouts import ACTED, EMOTIONS, emotion_of
from utils.data.corpora.scanning import AUDIO, Clip, Scan, safe_name, scan
from utils.data.corpora.texts import read_texts, text_of, with_texts

__all__ = [
    "ACTED",
    "AUDIO",
    "EMOTIONS",
    "Clip",
    "Scan",
    "emotion_of",
    "read_texts",
    "safe_name",
    "scan",
    "text_of",
    "with_texts",
]
