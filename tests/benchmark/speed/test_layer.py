"""The layer benchmark: what it compares computes the same, and rates follow from times."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmark.speed import layer
from benchmark.speed.layer import Chain, Figure, cells, measure
from edge_asr.native.library import built
from export.native import load, pack

needs_native = pytest.mark.skipif(
    not built() or not built("torch"), reason="not built; run: make native"
)


@needs_native
def test_a_chain_computes_what_torch_does() -> None:
    torch.manual_seed(1)
    chain = Chain(32, 1).eval()
    x = np.random.default_rng(2).normal(size=(1, 7, 32)).astype(np.float32)
    (found,) = load(pack(chain)).run(0, x)
    with torch.no_grad():
        expected = chain.layers[0](torch.from_numpy(x)).numpy()
    assert np.abs(found - expected).max() < 1e-5 < np.abs(expected).max()


@pytest.mark.slow
@needs_native
def test_a_case_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer, "COLD_BYTES", 1)
    figure = measure(32, 5, ("onnx",), rounds=1)
    assert 2 <= figure.experts <= 8
    bytes_of_expert = 2 * 32 * 128
    macs_per_s = 5 * layer.TOP_K * bytes_of_expert / (figure.native_ms / 1e3)
    assert figure.gmac_per_s == pytest.approx(macs_per_s / 1e9)
    assert figure.of_peak < 1 and figure.portable_ms["onnx"] > 0


def test_the_best_portable_program_is_what_counts() -> None:
    portable = {"onnx": 6.0, "torchscript": 4.0}
    figure = Figure(1024, 16, 3.0, 8.0, 20.0, 0.6, 80.0, 0.34, portable)
    assert figure.to_best_portable == 0.75
    assert cells(figure)[-2:] == ("4.00", "0.75")
