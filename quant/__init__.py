"""Quantization: checkpoint in, one set of integers out."""
