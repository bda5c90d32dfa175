"""A whole chain from recordings and a time: a plan of steps, each a command that could be typed, and who runs them."""
