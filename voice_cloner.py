"""`VoiceCloner`, from where programs and notebooks import it; `cloning/` has it.

>>> from voice_cloner import VoiceCloner
>>> cloner = VoiceCloner.load()                                   # our default weights
>>> cloning = cloner.clone("samples/austen_0870.wav", "Hello there.", seed=1)
>>> cloning.audio, cloning.similarity
"""

from cloning.cloner import VoiceCloner, speech_options

__all__ = ["VoiceCloner", "speech_options"]
