"""The golden vector of decoders: hypotheses over a few seconds of speech, and their scores.

What ``edge_asr.programs.golden`` is for encoders. The same file holds short hypotheses that visit
every expert; see ``edge_asr.programs.golden_scores``. Packages that were exported before there was
one have none; then only checksums vouch for their decoders.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_asr.backends import Decoder, DecoderScores, FloatArray, IntArray
from edge_asr.errors import PackageError
from edge_asr.package.files import Package
from edge_asr.package.manifest import DecoderSpec, Dispatch, Program
from edge_asr.programs.golden import Arrays, bound_of
from edge_asr.programs.golden_scores import PREFIXES, check_scores, read_scores

GOLDEN_DECODER = "golden_decoder.npz"
# Cases of golden scores in ``load``.
LOAD_CASES: dict[Dispatch, int] = {"portable": PREFIXES[0], "native": PREFIXES[1]}


@dataclass(frozen=True)
class DecoderGolden:
    """Hypotheses (N, U) with their lengths (N,) over encoder_out (1, T', D), and their scores."""

    hyps: IntArray
    hyp_lengths: IntArray
    encoder_out: FloatArray
    scores: DecoderScores


@dataclass(frozen=True)
class DecoderGoldenResult:
    """How far a program is from its golden vector."""

    hypotheses: int
    max_abs: float
    bound: float


def check_decoder_golden(
    package: Package, decoder: Decoder, program: Program, *, whole: bool = True
) -> DecoderGoldenResult | None:
    """Score the golden hypotheses and compare; None where the package has none.

    Args:
        whole: with all golden scores; else with some, which takes a few milliseconds.

    Raises:
        PackageError: the vector is malformed, or the program gives something else.
    """
    if not package.lists(GOLDEN_DECODER):
        return None
    where = package.root / program.file
    arrays = package.golden(GOLDEN_DECODER)
    golden = _golden(package, program, arrays)
    bound = bound_of(package, program, "golden_max_abs")
    mean_bound = bound_of(package, program, "golden_mean_abs")
    found = decoder.score(golden.hyps, golden.hyp_lengths, golden.encoder_out)
    ours, theirs = (np.stack([s.left, s.right]) for s in (found, golden.scores))
    if ours.shape != theirs.shape:
        raise PackageError(
            f"{where}: expected scores of shape {theirs.shape[1:]}, found {ours.shape[1:]}; "
            "export the package again"
        )
    with np.errstate(invalid="ignore"):  # infinities give NaN, and that is refused
        errors = np.abs(ours - theirs)
    max_abs, mean_abs = float(errors.max()), float(errors.mean())
    if not (max_abs <= bound and mean_abs <= mean_bound):  # so that NaN is refused too
        raise PackageError(
            f"{where}: expected the golden scores within {bound:g}, and {mean_bound:g} in the "
            f"mean; found differences of {max_abs:g} and {mean_abs:g}; this library or processor "
            "computes something else: try another backend, or export the package again"
        )
    _check_scores(package, decoder, program, arrays, whole)
    return DecoderGoldenResult(len(golden.hyps), max_abs, bound)


def _check_scores(
    package: Package, decoder: Decoder, program: Program, arrays: Arrays, whole: bool
) -> None:
    spec, encoder = package.manifest.decoder, package.manifest.encoder
    assert isinstance(spec, DecoderSpec), "a decoder was loaded"
    where = str(package.root / GOLDEN_DECODER)
    golden = read_scores(
        arrays, program.precision, spec, encoder.encoder_dim, encoder.vocab_size, where
    )
    if not whole:
        golden = golden.some(slice(LOAD_CASES[program.dispatch]))
    check_scores(decoder, golden, str(package.root / program.file))


def _golden(package: Package, program: Program, arrays: Arrays) -> DecoderGolden:
    """The arrays, checked against the manifest."""
    where = package.root / GOLDEN_DECODER
    sides = [f"{side}_{program.precision}" for side in ("left", "right")]
    names = ["hyps", "hyp_lengths", "encoder_out", *sides]
    for name in names:
        if name not in arrays:
            raise PackageError(f"{where}: holds no {name!r}; export the package again")
    hyps, lengths, encoder_out, left, right = (arrays[name] for name in names)
    spec, encoder = package.manifest.decoder, package.manifest.encoder
    assert isinstance(spec, DecoderSpec), "a decoder was loaded"
    count, longest = hyps.shape if hyps.ndim == 2 else (0, 0)
    frames = encoder_out.shape[1] if encoder_out.ndim == 3 else 0
    fitting = (
        hyps.dtype == lengths.dtype == np.int64
        and encoder_out.dtype == left.dtype == right.dtype == np.float32
        and 1 <= count <= spec.max_hyps
        and 1 <= longest <= spec.max_units
        and 1 <= frames <= spec.max_frames
        and lengths.shape == (count,)
        and encoder_out.shape == (1, frames, encoder.encoder_dim)
        and left.shape == right.shape == (count, longest + 1)
        and bool(((lengths >= 0) & (lengths <= longest)).all())
        and bool(((hyps >= 0) & (hyps < encoder.vocab_size)).all())
    )
    if not fitting:
        raise PackageError(
            f"{where}: its arrays do not fit one another or the manifest; export the package again"
        )
    return DecoderGolden(hyps, lengths, encoder_out, DecoderScores(left, right))
