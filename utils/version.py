"""The version: packaging, the headers of checkpoints and the notes of cloned files take it from here."""

VERSION = "0.9.0"
