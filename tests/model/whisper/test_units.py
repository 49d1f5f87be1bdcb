"""Units are tokens of Whisper, the most used ones, with the right numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_asr.errors import ConfigError
from model.tokenizer import SPECIAL, Tokenizer
from model.whisper.units import LETTERS, choose_units


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    merges = ["t h", "Ġ th", "Ġth e", "Ġ X", "i n", "in g", "1 2", "q u", "z z"]
    names = ["Ġ", *LETTERS.lower(), *("".join(merge.split()) for merge in merges)]
    vocabulary = {name: 10 + index for index, name in enumerate(names)}
    added = [{"content": "<|endoftext|>", "id": 90}, {"content": "<|notimestamps|>", "id": 91}]
    path = tmp_path / "tokenizer.json"
    model = {"vocab": vocabulary, "merges": merges}
    path.write_text(json.dumps({"model": model, "added_tokens": added}))
    return path


def test_the_most_used_tokens(tokenizer: Path) -> None:
    texts = ["THE KING", "THE QUEEN SING", "THE THING"]
    symbols, tokens = choose_units(texts, tokenizer, len(SPECIAL) + 28 + 4)
    assert symbols[:3] == list(SPECIAL) and tokens[:3] == [90, 90, 91]
    assert set(symbols[3:]) - {"▁", *LETTERS} == {"▁THE", "ING", "▁TH", "QU"}
    vocabulary = json.loads(tokenizer.read_text())["model"]["vocab"]
    for symbol, token in zip(symbols[3:], tokens[3:], strict=True):
        assert token == vocabulary[symbol.lower().replace("▁", "Ġ")]
    cut = Tokenizer(symbols, pieces=True)
    assert [symbols[i] for i in cut.encode("THE THING")] == ["▁THE", "▁TH", "ING"]


def test_more_units_than_tokens(tokenizer: Path) -> None:
    with pytest.raises(ConfigError, match="tokens of letters, 97 are asked for"):
        choose_units(["A"], tokenizer, 100)


def test_another_file(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"not Whisper's tokenizer\.json"):
        choose_units(["A"], tmp_path / "tokenizer.json", 40)
