"""More than one text in one voice: scripts with several voices, long texts, tables of texts."""
