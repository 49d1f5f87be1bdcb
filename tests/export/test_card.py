"""Another model card for a package: the card, what was asked for, and nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from edge_asr.package.files import Package, open_package
from export.card import CARD, main, model_card, recard

OTHER = "# Tiny\n\nSays “two” und nichts weiter.\n"


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def card(tmp_path: Path) -> Path:
    path = tmp_path / "card.md"
    path.write_text(OTHER, encoding="utf-8")
    return path


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"wer": 12.5}))
    return path


def test_the_card_and_what_was_asked_for(
    tiny_package: Package, card: Path, metrics: Path, tmp_path: Path
) -> None:
    root, before, others = tiny_package.root, tiny_package.manifest, set(tmp_path.iterdir())
    kept = contents(root)
    options = ["--metrics", str(metrics), "--license", "CC-BY-4.0"]
    assert main([str(root), "--card", str(card), *options]) == 0
    package = open_package(root)
    package.check_files()
    assert package.read(CARD).decode() == OTHER
    assert (package.manifest.metrics, package.manifest.license) == ({"wer": 12.5}, "CC-BY-4.0")
    changed = {CARD, "manifest.json"}
    after = contents(root)
    assert {n: after[n] for n in after if n not in changed} == {
        n: kept[n] for n in kept if n not in changed
    }
    assert package.manifest.programs == before.programs
    same = {"metrics": {}, "license": "", "files": ()}
    assert msgspec.structs.replace(package.manifest, **same) == msgspec.structs.replace(
        before, **same
    )
    assert set(tmp_path.iterdir()) == others, "nothing is left beside it"


def test_what_is_not_asked_for_stays(tiny_package: Package, card: Path) -> None:
    metrics = {"wer": 3.0}
    recard(tiny_package, "# One\n", metrics, "CC0-1.0")
    assert main([str(tiny_package.root), "--card", str(card)]) == 0
    manifest = open_package(tiny_package.root).manifest
    assert (manifest.metrics, manifest.license) == (metrics, "CC0-1.0")


def test_the_card_that_is_made_where_none_is_given(tiny_package: Package) -> None:
    rows = {
        name: {"max_abs": 0.1, "mean_abs": 0.1, "texts": 2, "equal_texts": 1}
        for name in tiny_package.parity
    }
    card = model_card(tiny_package.manifest, {"programs": rows})
    assert card.startswith("# tiny\n") and card.count(" | 1 of 2 texts |") == len(rows) > 0


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (["--card", "nowhere.md"], 66, "nowhere.md"),
        (["--card", "card.md", "--metrics", "nowhere.json"], 66, "nowhere.json"),
        (["--card", "card.md", "--metrics", "card.md"], 78, "card.md"),
        (["--card", "latin-1.md"], 78, "UTF-8"),
    ],
)
def test_refused_in_one_line(
    tiny_package: Package, card: Path, options: list[str], code: int, word: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(card.parent)
    Path("latin-1.md").write_bytes(b"\xe9")
    kept = contents(tiny_package.root)
    assert main([str(tiny_package.root), *options]) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("export.card: ") and word in lines[0]
    assert contents(tiny_package.root) == kept


def test_only_a_whole_package_gets_one(
    tiny_package: Package, card: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(card.parent / "none"), "--card", str(card)]) == 66
    program = tiny_package.root / tiny_package.manifest.programs[0].file
    data = bytearray(program.read_bytes())
    data[len(data) // 2] ^= 1
    program.write_bytes(data)
    assert main([str(tiny_package.root), "--card", str(card)]) == 78
    assert "sha256" in capsys.readouterr().err
    assert (tiny_package.root / CARD).read_text(encoding="utf-8") != OTHER
