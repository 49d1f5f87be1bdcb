"""benchmark.claim.page: means over seeds, which machine measured what, and known figures."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmark.claim.page import Trained, draw, page, read_known
from edge_asr.errors import ConfigError, InputMissingError


def trained(name: str, seed: int, rate: float, experts: list[float]) -> Trained:
    return Trained(name, seed, 100, 2_000_000, {"an4": {"whole": rate, "16": rate + 1}}, experts,
                   f"day {seed}", 1_500_000, 1.25 if seed == 1 else None, 0.02)  # fmt: skip


FOUND = [
    trained("dense-s", 1, 10.0, []),
    trained("moe-s", 1, 8.0, [2.0, 4.0]),
    trained("moe-s", 2, 9.0, [3.0, 5.0]),
]


def test_the_page_has_means_seeds_and_who_measured() -> None:
    lines = list(page(FOUND, 9, "claim.svg"))
    assert "| moe-s | 8.5 (8.0, 9.0) | 9.5 (9.0, 10.0) |" in lines
    assert (
        "| moe-s | 1, 2 | 100 | 2.00 | 1.5 | 1.25 | 0.0200 | 3.50 (2.0 to 5.0 by layer) |" in lines
    )
    assert "* Measured on day 1: dense-s-1, moe-s-1." in lines
    assert 'make claim RECIPES="moe-s" SEEDS="2"' in lines
    assert lines[-1].endswith("(claim.svg)")
    assert "svg" not in "".join(page(FOUND, 9, None))


def test_the_picture_names_every_recipe(tmp_path: Path) -> None:
    draw(FOUND, tmp_path / "claim.svg")
    text = (tmp_path / "claim.svg").read_text()
    ElementTree.fromstring(text)
    assert "dense-s" in text and "moe-s" in text


def test_figures_of_an_earlier_run(tmp_path: Path) -> None:
    known = tmp_path / "known.json"
    with pytest.raises(InputMissingError, match="--known"):
        read_known(known)
    known.write_text(json.dumps([asdict(one) for one in FOUND]))
    assert read_known(known) == FOUND
    known.write_text('[{"x": 1}]')
    with pytest.raises(ConfigError, match="known"):
        read_known(known)
