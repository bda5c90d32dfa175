"""Inputs that are made to break things: each ends in one line, soon, in little memory."""
