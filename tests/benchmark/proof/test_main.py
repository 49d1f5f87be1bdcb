"""The page of mutants: rates of those that change anything."""

from __future__ import annotations

from benchmark.page import Origin
from benchmark.proof.__main__ import MISSED, WITHOUT_EFFECT, Figures, Finding, page
from benchmark.proof.mutants import CHANGES

KIND = next(iter(CHANGES))


def test_rates_leave_out_what_has_no_effect_and_name_what_is_missed() -> None:
    outcomes = ["load", "load", "verify", "exporter", MISSED, WITHOUT_EFFECT]
    findings = [Finding(KIND, f"layer {n}", outcome) for n, outcome in enumerate(outcomes)]
    origin = Origin("tiny", "onnx", "int8", "python", shared=False)
    lines = list(page(Figures(origin, 8, 1, findings, ["avx2: load"], 9)))
    assert f"| {KIND} | 6 | 1 | 40.0% | 60.0% | 80.0% | 1 |" in lines
    assert f"* {KIND}, layer 4" in lines
    assert any("7 of 8 experts" in line and "1 false alarms in 9" in line for line in lines)
