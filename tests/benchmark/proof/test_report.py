"""The page: rates leave out what has no effect, and name what is missed."""

from __future__ import annotations

from benchmark.proof.bench import Finding
from benchmark.proof.report import figures_of, page
from benchmark.proof.right import RightPackage
from edge_asr.machine import describe_machine

ALL = {"load": "wrong", "verify": "wrong", "export": "wrong"}


def finding(seed: int, found: dict[str, str], effect: str = "", kind: str = "a bug") -> Finding:
    return Finding(seed, "encoder native int8", kind, f"layer {seed}", found, effect)


FINDINGS = [
    *(finding(seed, ALL) for seed in range(6)),
    finding(6, {"verify": "wrong", "export": "wrong"}),
    finding(7, {"export": "wrong"}),
    finding(8, {}, "missed", "another bug"),
    finding(9, {}, "none"),
    finding(10, {}, "rounding"),
    finding(11, {"export": "wrong"}, "rounding"),
]


def lines(*right: RightPackage) -> list[str]:
    return list(page(figures_of(FINDINGS, list(right), "a command", "tiny", describe_machine())))


def test_rates_are_of_mutants_that_do_something() -> None:
    text = lines()
    assert "| `load` | 6 of 9 | 66.67% | 95.00% | 50.00% |" in text
    assert "| `export` | 8 of 9 | 88.89% | 99.50% | 66.67% |" in text
    assert "| a bug | 11 | 1 | 2 | 75.0% | 87.5% | 100.0% | 0 |" in text


def test_every_mutant_that_is_not_found_is_named_under_its_reason() -> None:
    text = lines()
    titles = {
        "## Missed by the exporter": 8,
        "## Missed by `verify`, found by the exporter": 7,
        "## Without effect": 9,
        "## Below rounding": 10,
    }
    for title, seed in titles.items():
        assert f"(seed {seed})" in text[text.index(title) + 2]
    assert sum("(seed 11)" in line for line in text) == 1, "it need not be found"


def test_false_alarms_are_counted_and_said() -> None:
    right = RightPackage("r", "sizes", ("onnx",), ("avx2",), 12, ("load with avx2: no",))
    text = lines(right)
    assert any("1 right packages, 12 checks" in line and "1 false alarms" in line for line in text)
    assert "* r: load with avx2: no" in text
    assert "## False alarms" not in lines()
