"""The help of the options of the search."""

from __future__ import annotations

import re

import pytest

from edge_asr.__main__ import main
from edge_asr.fusion.hotword_text import DEFAULT_BONUS
from edge_asr.package.manifest import MAX_BEAM
from edge_asr.search.decoding import Decoding
from edge_asr.search.decoding_options import LONGEST_SEGMENT_MS, SHORTEST_SEGMENT_MS
from edge_asr.search.prefix import BEAM, PrefixSearch

COMMANDS = ("mic", "transcribe")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_tells_the_real_defaults(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    shown = dict(
        re.findall(r"  --([a-z-]+) [^\n]*?(?:(?!\n  -).)*?\(default:\s+([^);]+)", text, re.S)
    )
    usual = Decoding()
    expected: dict[str, object] = {
        "search": usual.search,
        "beam": BEAM,
        "blank-penalty": PrefixSearch(0).blank_penalty,
        "second-pass": {"mic": "background", "transcribe": "inline"}[command],
        "nbest": usual.nbest,
        "hotword-bonus": DEFAULT_BONUS,
        "lm-weight": 0.5,
        "lm-word-bonus": 0,
        "silence-ms": usual.endpoint.silence_ms,
        "max-segment-ms": usual.endpoint.max_segment_ms,
        "commit-margin": usual.commit.margin,
        "commit-latest-ms": usual.commit.latest_ms,
    }
    for option, value in expected.items():
        wanted = f"{value:g}" if isinstance(value, int | float) else value
        assert shown[option] == wanted, option
    ranges = dict(re.findall(r"  --([a-z-]+) N\s[^(]*?(\d+\s+to\s+\d+)\s", text))
    assert {option: " ".join(bounds.split()) for option, bounds in ranges.items()} == {
        "beam": f"1 to {MAX_BEAM}",
        "max-segment-ms": f"{SHORTEST_SEGMENT_MS} to {LONGEST_SEGMENT_MS}",
    }
    assert all(len(line) <= 80 for line in text.splitlines())
    assert len(text.partition("\n\n")[0].splitlines()) == 1, "the usage is a line"
    assert ("read again" in " ".join(text.split())) == (command == "mic")
