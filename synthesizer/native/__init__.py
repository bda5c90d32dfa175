"""Tacotron's decoder in native code: `decoder.c`, compiled at first use."""
