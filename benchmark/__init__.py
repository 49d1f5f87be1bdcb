"""Measures models, packages and the runtime: the figures of docs/benchmarks."""
