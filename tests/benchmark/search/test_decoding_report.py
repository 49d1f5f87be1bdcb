"""benchmark.search.decoding_report: when a way is worse by more than noise."""

from __future__ import annotations

import numpy as np

from benchmark.search.decoding_report import Rate
from benchmark.words.errors import UtteranceErrors


def test_worse_by_more_than_noise() -> None:
    zero = np.zeros(100, np.int64)
    greedy = UtteranceErrors(zero, zero, zero, zero + 1)
    more = zero.copy()
    more[:10] = 1
    assert Rate.of(UtteranceErrors(more, zero, zero, zero + 1), greedy).worse
    more[1:] = 0
    one_word = Rate.of(UtteranceErrors(more, zero, zero, zero + 1), greedy)
    assert not one_word.worse, "one word is noise"
