"""Text to symbols: written text -> spoken text -> characters or phones -> ids."""

from synthesizer.text.languages import Normalized
from synthesizer.text.processor import PUBLISHED, TextConfig, TextProcessor, Word

__all__ = ["PUBLISHED", "Normalized", "TextConfig", "TextProcessor", "Word"]
