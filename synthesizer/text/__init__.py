"""Text to symbols: written text -> spoken text -> characters or phones -> ids."""

from synthesizer.text.languages import Normalized
from synthesizer.text.processor import PUBLISHED, TextConfig, TextProcessor, Word
from synthesizer.text.sentences import Sentence, split_sentences

__all__ = ["PUBLISHED", "Normalized", "Sentence", "TextConfig", "TextProcessor", "Word", "split_sentences"]
