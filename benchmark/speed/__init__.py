"""Seconds and memory of ours alone."""
