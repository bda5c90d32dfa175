"""More than one text in one voice: scripts with several voices, long texts, tables of texts.

>>> narrator = Narrator(VoiceCloner.load(), {"rate": 0.9}, bits="24")     # narration.speak
>>> narrator.text(Library().load("lucy"), book, Path("out/book.wav"), seed=1)
>>> lines = parse("[lucy] Hello.\\n[henry] Hello, Lucy!")                   # narration.script
>>> narrator.script({name: Library().load(name) for name in ("lucy", "henry")}, lines, Path("out/play.wav"), seed=1)
"""
