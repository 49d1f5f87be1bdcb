"""Programs on the bench: mutants are judged, and leave nothing in the right program."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from benchmark.proof.__main__ import export_config
from benchmark.proof.bench import NAMES, SHARES, Bench, make_reference
from benchmark.proof.layers import floats, read_layers
from benchmark.proof.mutants import Mutant
from export.package import export_package
from quant.checkpoint import load_at
from tests.paths import DATA


def test_of_twenty_mutants_every_program_has_its_share() -> None:
    assert len(NAMES) == 20
    assert Counter(NAMES) == {" ".join(name): share for name, share in SHARES.items()}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    checkpoint = DATA / "wenet-moe"
    config = export_config(checkpoint, tmp_path_factory.mktemp("proof") / "package")
    package = export_package(config, lambda line: None)
    (quantized,) = load_at(checkpoint, ["int8"])
    references = make_reference(checkpoint, package.root, "int8")
    return Bench(package, references, quantized.network, "decoder native int8")


@pytest.mark.slow
def test_mutants_are_found_and_the_right_program_is_not(bench: Bench) -> None:
    assert bench.refusals() == {}
    hyps, memory = (
        np.array([[5, 6, 7]]),
        np.ones((1, 9, bench.package.manifest.encoder.encoder_dim)),
    )
    before = bench.right.score(hyps, np.array([3]), memory.astype(np.float32))
    kinds = bench.target.kinds
    zero = bench.try_mutant(kinds.index("an expert is zero"), 3)
    swapped = bench.try_mutant(kinds.index("scores of the directions are swapped"), 4)
    assert "export" in zero.found and "export" in swapped.found
    assert zero == bench.try_mutant(kinds.index("an expert is zero"), 3)
    after = bench.right.score(hyps, np.array([3]), memory.astype(np.float32))
    assert np.array_equal(before.left, after.left) and np.array_equal(before.right, after.right)


@pytest.mark.slow
def test_effects_are_measured_from_the_right_program_whatever_is_in(bench: Bench) -> None:
    changed = bytearray(bench.target.weights or b"")
    layer = read_layers(bytes(changed))[0]
    place = layer.matrices[0].scale
    floats(changed, slice(place, place + 4 * layer.matrices[0].out))[:] *= np.float32(1.001)
    mutant = Mutant("scales", "all", weights=bytes(changed))
    vars(bench).pop("_effect", None)
    bench._put(mutant.weights)
    assert bench._effect_of(mutant, bench.right).name == "missed"
    bench._put(bench.target.weights)
    assert bench._effect_of(Mutant("none", ""), bench.right).name == "none"
