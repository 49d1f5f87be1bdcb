"""Samples in, events out: streams, and the recognizer that makes them."""
