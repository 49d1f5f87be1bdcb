"""Equal texts prove something only where there are texts."""

from __future__ import annotations

import numpy as np
import pytest

from edge_asr.package.units import Units
from export.parity import ParityError
from export.verify import DIFFERENT_TEXTS, Reference, Stream, check_texts

UNITS = Units(("<blank>", "a", "b", "c", "d"))


def reference(*texts: str) -> Reference:
    """One whose clips give these texts, of one unit each."""
    clips = []
    for text in texts:
        log_probs = np.full((4, len(UNITS.symbols)), -9.0, np.float32)
        log_probs[:, 0] = -0.1
        if text:
            log_probs[2, UNITS.symbols.index(text)] = 0.0
        clips.append(Stream([], log_probs, []))
    return Reference([], clips, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("texts", ["abc", "abcabc", "a", "ab", ["a", "b", "", "", "c"]])
def test_different_texts_are_enough(texts: list[str]) -> None:
    check_texts(reference(*texts), UNITS, 0)


@pytest.mark.parametrize("texts", [[""], ["", "", ""], ["a"] * 9, ["a", "b", ""], ["a", "a"]])
def test_empty_and_equal_texts_prove_nothing(texts: list[str]) -> None:
    with pytest.raises(ParityError, match=f"{len(texts)} clips give .* --speech") as caught:
        check_texts(reference(*texts), UNITS, 0)
    assert f"at least {min(DIFFERENT_TEXTS, len(texts))} are needed" in str(caught.value)
    assert "\n" not in str(caught.value)
