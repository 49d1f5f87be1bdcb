"""Figures of many measurements."""

from __future__ import annotations

from edge_asr.bench.report import Percentiles, Spread


def test_percentiles() -> None:
    assert Percentiles.of([]) is None
    found = Percentiles.of([float(n) for n in range(101)])
    assert found == Percentiles(count=101, p50=50, p95=95, p99=99, max=100)
    assert Spread.of([3.0, 1.0, 2.0, 9.0]) == Spread(median=2.5, min=1, max=9)
