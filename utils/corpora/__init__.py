"""Corpora on disk: the layout is recognised, not asked for."""

from utils.corpora.layouts import ACTED, EMOTIONS, emotion_of
from utils.corpora.scanning import AUDIO, Clip, Scan, safe_name, scan

__all__ = ["ACTED", "AUDIO", "EMOTIONS", "Clip", "Scan", "emotion_of", "safe_name", "scan"]
