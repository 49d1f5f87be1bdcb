"""The format of samples without a header."""

from __future__ import annotations

import pytest

from edge_asr.audio.raw import RawFormat, parse_raw
from edge_asr.errors import UsageError


def test_formats() -> None:
    assert parse_raw("16000") == RawFormat(16000, 1)
    assert parse_raw("44100:2") == RawFormat(44100, 2)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "16000:", ":2", "16000:0", "16000:33", "0", "3999", "384001", "-16000"),
        *("16000.0", "16000:2:s16le", "9" * 30, "16000\n"),
    ],
)
def test_others_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"allowed are RATE and RATE:CHANNELS") as caught:
        parse_raw(text)
    assert (caught.value.field, caught.value.value) == ("raw", text)
    assert "\n" not in str(caught.value)
