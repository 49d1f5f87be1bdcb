"""Files of hotwords, good and bad."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_asr.errors import UsageError
from edge_asr.fusion.hotword_text import MAX_FILE_BYTES, parse_hotwords
from edge_asr.fusion.hotwords import Hotwords
from edge_asr.package.units import Units


def test_a_file_is_read() -> None:
    text = "\ufeff# places\r\nNew York\r\n\n  \t\n\u00dcberlingen\t3.5\r\n # none\nC#\t1e1\n你好"
    expected = ["New York", ("\u00dcberlingen", 3.5), ("C#", 10.0), "你好"]
    assert parse_hotwords(text.encode(), "list.txt") == expected
    assert parse_hotwords(b"", "list.txt") == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"ONE\n\nTWO\tthree\n", "line 3: the bonus is 'three', no number"),
        (b"ONE\t", "line 1: the bonus is '', no number"),
        (b"ONE\t1\t2", "line 1: the bonus is '1\\\\t2', no number"),
        (b"ONE\t0", "line 1: a bonus per unit of 0; allowed is more than 0, up to 20"),
        (b"ONE\tnan", "line 1: a bonus per unit of nan"),
        (b"ONE\t1e999", "line 1: a bonus per unit of inf"),
        (b"#\n\t2", "line 2: the phrase is empty"),
        (b"ONE\n" + b"A" * 101, "line 2: 'A{40}'... has 101 characters; allowed are 100"),
        (b"ONE\n\xff", "byte 4 is not UTF-8"),
        (b"A\n" * 10_001, "line 10001: more than 10000 hotwords"),
        (b"#" * (MAX_FILE_BYTES + 1), "larger than 8388608 bytes"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(text: bytes, what: str) -> None:
    with pytest.raises(UsageError, match=f"^list.txt:? {what}") as caught:
        parse_hotwords(text, "list.txt")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 200


def test_comments_do_not_count() -> None:
    assert len(parse_hotwords(b"# A\nA\n" * 10_000, "list.txt")) == 10_000


lines = st.text(st.sampled_from("a#\t\r\n 1.▁你\u0301\u2028\x00ß"), max_size=40).map(str.encode)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | lines)
@example("\ud800".encode("utf-8", "surrogatepass"))
@example("▁\t1".encode())
def test_any_bytes_are_phrases_or_an_error(text: bytes) -> None:
    try:
        phrases = parse_hotwords(text, "list.txt")
    except UsageError as error:
        assert str(error).startswith("list.txt") and str(error).isprintable()
        return
    # What the file allows, the build allows, and says of each phrase that it leaves out.
    _, left_out = Hotwords.build(phrases, Units(("<blank>", "▁", "a", "1", "你")))
    for phrase, reason in left_out:
        assert phrase in [entry if isinstance(entry, str) else entry[0] for entry in phrases]
        assert reason.isprintable()
