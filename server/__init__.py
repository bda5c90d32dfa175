"""The chain behind HTTP, as OpenAI's clients speak it: see serve.py."""
