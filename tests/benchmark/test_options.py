"""benchmark.options: what they allow, and a page that cannot be written ends a command at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.options import add_package, add_recordings, add_speed, page_parser
from edge_asr.errors import OutputError, UsageError


def parse(*words: str, out: str | None = None) -> object:
    parser = page_parser("benchmark.one", "What it does.", out=out)
    add_package(parser)
    add_recordings(parser)
    add_speed(parser, rounds=3, audio_s=30)
    return parser.parse_args(["package", "a/test.tsv", *words])


def test_defaults_and_values(tmp_path: Path) -> None:
    assert vars(parse()) == {  # type: ignore[arg-type]
        "package": "package", "recordings": [Path("a/test.tsv")], "out": None,
        "rounds": 3, "audio_s": 30, "shared": False,
    }  # fmt: skip
    words = ("--rounds", "0", "--audio-s", "1.5", "--shared", "-o", str(tmp_path / "page.md"))
    found = vars(parse(*words))  # type: ignore[arg-type]
    assert (found["rounds"], found["audio_s"], found["shared"]) == (0, 1.5, True)
    assert found["out"] == tmp_path / "page.md"


@pytest.mark.parametrize("words", [("--rounds", "-1"), ("--audio-s", "0"), ("--audio-s", "nan")])
def test_values_that_are_not_allowed(words: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match="--rounds must be 0 or more and --audio-s 1 to 3600"):
        parse(*words)


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "none" / "page.md")
    with pytest.raises(OutputError, match="none"):
        parse("-o", nowhere)
    with pytest.raises(OutputError, match="none"):
        parse(out=nowhere)
