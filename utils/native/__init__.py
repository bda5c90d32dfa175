"""C files that are compiled at first use."""
