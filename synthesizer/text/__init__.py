"""Text to symbols: written text -> spoken text -> characters or phones -> ids."""

from synthesizer.text.languages import Normalized
from synthesizer.text.processor import PUBLISHED, TextConfig, TextProcessor, Word
from synthesizer.text.sentences import Sentence, Spoken

__all__ = ["PUBLISHED", "Normalized", "Sentence", "Spoken", "TextConfig", "TextProcessor", "Word"]
