"""Processes that try mutants; each opens the programs that its mutants are of, once."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch

from benchmark.proof.bench import NAMES, Bench, Finding, References
from edge_asr.package.files import Package, open_package
from quant.checkpoint import load_at

_opened: list[tuple[Path, Package, dict[str, References]]] = []
_benches: dict[str, Bench] = {}


def open_worker(checkpoint: Path, package: Path, references: Path) -> None:
    """Once in each process, before the first seed; ``references`` are the pickled ones of
    ``bench.make_references``."""
    torch.set_num_threads(1)
    _opened[:] = [(checkpoint, open_package(package), pickle.loads(references.read_bytes()))]
    _benches.clear()


def try_seeds(seeds: list[int]) -> list[Finding]:
    """The findings of these seeds."""
    found = []
    for seed in seeds:
        name, number = place_of(seed)
        found.append(_bench(name).try_mutant(number, seed))
    return found


def place_of(seed: int) -> tuple[str, int]:
    """Whose mutant a seed is, and which: programs in turn, and of each the kinds of bugs."""
    turn, place = divmod(seed, len(NAMES))
    name = NAMES[place]
    return name, turn * NAMES.count(name) + place - NAMES.index(name)


def _bench(name: str) -> Bench:
    if name not in _benches:
        checkpoint, package, references = _opened[0]
        precision = name.split()[-1]
        (quantized,) = load_at(checkpoint, [precision])  # type: ignore[list-item]
        _benches[name] = Bench(package, references[precision], quantized.network, name)
    return _benches[name]
