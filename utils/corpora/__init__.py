"""Corpora on disk: the layout is recognised, not asked for."""

from utils.corpora.layouts import EMOTIONS
from utils.corpora.scanning import AUDIO, Clip, Scan, safe_name, scan

__all__ = ["AUDIO", "EMOTIONS", "Clip", "Scan", "safe_name", "scan"]
