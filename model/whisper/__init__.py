"""Whisper's weights as a beginning: its encoder and its text decoder in a network of ours.

A tool of training. What begins with them carries their licence (MIT, OpenAI) in its card.
"""
