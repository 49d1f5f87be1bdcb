"""The golden vector: does this program, on this machine, still give what its exporter saw?

Checksums prove that the bytes arrived. That this library on this processor computes with them
what it should is another matter, so a few seconds of real speech travel with the package,
together with the log-probabilities that eager torch gave for it. ``golden_max_abs`` of
parity.json bounds the largest difference of any log-probability for each program, and
``golden_mean_abs`` the mean. The same file holds steps that visit every expert; see
``edge_asr.programs.golden_steps``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_asr.audio.features import Samples
from edge_asr.audio.samples import check_samples
from edge_asr.backends import Encoder, FloatArray
from edge_asr.errors import AudioError, PackageError
from edge_asr.package.files import GOLDEN, PARITY, Package
from edge_asr.package.manifest import Dispatch, Program
from edge_asr.programs.golden_steps import PREFIXES, check_steps, read_steps
from edge_asr.programs.streaming import cut, stream_log_probs, whole_features
from edge_asr.search.greedy import greedy

LOAD_STEPS = 2  # enough to see the state carried over once
LEAD = 10.0  # so many times the mean error's bound, a unit that leads by less may lose
# Chains of golden steps in ``load``, which has a tenth of a second for them.
LOAD_CHAINS: dict[Dispatch, int] = {"portable": PREFIXES[0], "native": PREFIXES[1]}

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class GoldenResult:
    """How far a program is from its golden vector; ``text`` only if all of it was run."""

    frames: int
    max_abs: float
    bound: float
    text: str | None


def check_golden(
    package: Package, encoder: Encoder, program: Program, steps: int | None = LOAD_STEPS
) -> GoldenResult:
    """Run the golden samples and compare.

    Args:
        steps: how many encoder steps of the samples to run, and some of the golden steps; None
            runs all and compares the text too.

    Raises:
        PackageError: the vector is missing or malformed, or the program gives something else.
    """
    where = f"{package.root / program.file}"
    arrays = package.golden()
    samples, expected, text = _golden(package, arrays, program)
    bound = bound_of(package, program, "golden_max_abs")
    mean_bound = bound_of(package, program, "golden_mean_abs")
    manifest = package.manifest
    cuts = cut(whole_features(samples, manifest.features), manifest.encoder)[:steps]
    found = stream_log_probs(encoder, cuts, manifest.encoder, where)
    if len(found) > len(expected) or (steps is None and len(found) != len(expected)):
        raise PackageError(
            f"{where}: expected {len(expected)} frames for the golden samples, found "
            f"{len(found)}; export the package again"
        )
    with np.errstate(invalid="ignore"):  # infinities give NaN, and that is refused
        errors = np.abs(found - expected[: len(found)])
        max_abs = float(errors.max(initial=0.0))
        mean_abs = float(errors.mean()) if errors.size else 0.0
    if not (max_abs <= bound and mean_abs <= mean_bound):  # so that NaN is refused too
        raise PackageError(
            f"{where}: expected the golden log-probabilities within {bound:g}, and {mean_bound:g} "
            f"in the mean; found differences of {max_abs:g} and {mean_abs:g}; this library or "
            "processor computes something else: try another backend, or export the package again"
        )
    _check_steps(package, arrays, encoder, program, whole=steps is None)
    if steps is not None:
        return GoldenResult(len(found), max_abs, bound, None)
    said, intended = (_said(package, log_probs) for log_probs in (found, expected))
    if said != text and not (intended == text and is_near(found, expected, LEAD * mean_bound)):
        raise PackageError(
            f"{where}: expected the golden text {text!r}, found {said!r}; try another backend, "
            "or export the package again"
        )
    return GoldenResult(len(found), max_abs, bound, said)


def _said(package: Package, log_probs: FloatArray) -> str:
    tokens = greedy(log_probs, package.manifest.units.blank)
    return package.units.text(token.id for token in tokens)


def is_near(found: FloatArray, expected: FloatArray, lead: float) -> bool:
    """Whether the best units of log-probabilities (T', V) are the expected ones in every frame
    where the expected one leads by more than ``lead`` over the one that was found. The rest is
    chance: a last bit decides between units that are equally probable."""
    frames = np.arange(len(expected))
    ahead = expected.max(axis=1) - expected[frames, found.argmax(axis=1)]
    return bool((ahead <= lead).all())


def _check_steps(
    package: Package, arrays: Arrays, encoder: Encoder, program: Program, whole: bool
) -> None:
    spec, where = package.manifest.encoder, str(package.root / GOLDEN)
    golden = read_steps(arrays, program.precision, spec, where)
    if not whole:
        golden = golden.some(slice(LOAD_CHAINS[program.dispatch]))
    check_steps(encoder, golden, spec, f"{package.root / program.file}")


def _golden(package: Package, golden: Arrays, program: Program) -> tuple[Samples, FloatArray, str]:
    """Samples (N,), log-probabilities (T', V) and text, checked."""
    where = package.root / GOLDEN
    names = ("samples", f"log_probs_{program.precision}", f"text_{program.precision}")
    for name in names:
        if name not in golden:
            raise PackageError(f"{where}: holds no {name!r}; export the package again")
    samples, log_probs, text = (golden[name] for name in names)
    vocab_size = package.manifest.encoder.vocab_size
    if samples.dtype != np.float32 or samples.ndim != 1 or len(samples) == 0:
        raise PackageError(f"{where}: samples must be float32 (N,); export the package again")
    try:
        check_samples(samples[:, None], str(where))
    except AudioError as error:
        raise PackageError(f"{error}; export the package again") from error
    if log_probs.dtype != np.float32 or log_probs.shape[1:] != (vocab_size,):
        raise PackageError(
            f"{where}: {names[1]} must be float32 (T', {vocab_size}), found {log_probs.dtype} "
            f"{log_probs.shape}; export the package again"
        )
    return samples, log_probs, str(text)


def bound_of(package: Package, program: Program, name: str) -> float:
    """What parity.json allows a program.

    Raises:
        PackageError: it names no such bound.
    """
    bound = package.parity.get(program.file, {}).get(name)
    if isinstance(bound, int | float) and math.isfinite(bound) and bound >= 0:
        return float(bound)
    raise PackageError(
        f"{package.root / PARITY}: expected programs[{program.file!r}].{name} to be a "
        f"number from 0, found {bound!r}; export the package again"
    )
