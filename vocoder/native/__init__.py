"""WaveRNN's sample loop in native code: `wavernn.c`, compiled at first use."""
