"""Text to symbols: written text -> spoken text -> characters or phones -> ids."""
