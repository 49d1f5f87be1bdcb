"""N-gram models estimated from sentences: interpolated modified Kneser-Ney smoothing.

S. F. Chen and J. Goodman, "An empirical study of smoothing techniques for language modeling"
(1998). The longest n-grams are counted as they occur, shorter ones by how many different words
come before them; those that begin a sentence as they occur, for no word is before them. From each
count the discount of its length is taken, and what is taken goes to shorter contexts, at last to
all words alike, ``<unk>`` among them.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import numpy.typing as npt

from edge_asr.errors import UsageError, check_number, check_type
from edge_asr.fusion.arpa import BEGIN, END, MAX_NGRAMS, UNKNOWN, Ngrams, Order
from edge_asr.fusion.spelling import MAX_WORD_CHARS
from edge_asr.fusion.trie import Ints

MAX_ESTIMATED_ORDER = 5
MAX_TEXT_WORDS = 50_000_000
_UNKNOWN_ID, _BEGIN_ID, _END_ID = range(3)
_NONE = -1
_LOG_ZERO = np.log(10.0) * -99
# For texts that are too small to say: what larger ones give, roughly.
_USUAL_DISCOUNTS = (0.5, 1.0, 1.5)

Floats = npt.NDArray[np.float64]


@dataclass(eq=False)
class _Level:
    """The different n-grams of one length, sorted by context and word."""

    context: Ints  # (N,) its index one level below
    word: Ints  # (N,)
    end: Ints  # (N,) the index, one level below, of the n-gram without its first word
    seen: Ints  # (N,) how often it occurs
    count: Ints  # (N,) what is estimated from: as often as it occurs, or after how many words
    kept: npt.NDArray[np.bool_]  # (N,)


def estimate(
    sentences: Iterable[Sequence[str]], order: int = 3, min_counts: Sequence[int] = ()
) -> Ngrams:
    """A model of ``order``, with the probability of every word in every context above 0.

    Args:
        sentences: words, of which ``<unk>`` is the unknown one; longer ones than
            ``spelling.MAX_WORD_CHARS`` become it.
        min_counts: how often n-grams of each length must occur to be listed: never less than
            shorter ones, the last for all longer ones, and 1 for single words.

    Raises:
        UsageError: an argument out of range, no word, too many, or ``<s>`` among them.
    """
    check_number("order", order, 1, MAX_ESTIMATED_ORDER, f"1 to {MAX_ESTIMATED_ORDER}", whole=True)
    minima = _minima(min_counts, order)
    words, stream = _numbered(sentences)
    levels = _counted(stream, len(words), minima)
    orders: list[Order] = []
    below: Floats = np.full(len(words), 1 / (len(words) - 1))  # all words alike, but <s>
    rows = np.zeros((1, 0), np.int32)
    listed = np.zeros(1, np.int64)  # indices of what is kept one level below
    for length, level in enumerate(levels, start=1):
        contexts = 1 if length == 1 else len(levels[length - 2].word)
        probabilities, weights = _smoothed(level, below[level.end], contexts)
        if orders:
            orders[-1].backoffs[:] = np.log(weights[listed])
        if length == 1:
            probabilities[_BEGIN_ID] = 1.0  # only to have a logarithm
        place = np.full(contexts, -1)
        place[listed] = np.arange(len(listed))
        listed = np.flatnonzero(level.kept)
        parents = place[level.context[listed]]
        rows = np.column_stack([rows[parents], level.word[listed].astype(np.int32)])
        log_probs = np.log(probabilities[listed])
        orders.append(Order(rows, log_probs, np.zeros(len(listed))))
        below = probabilities
    orders[0].log_probs[_BEGIN_ID] = _LOG_ZERO
    if (total := sum(len(each.words) for each in orders)) > MAX_NGRAMS:
        raise UsageError(f"{total} n-grams; allowed are {MAX_NGRAMS}: raise the minimum counts")
    return Ngrams(words, tuple(orders))


def _minima(min_counts: Sequence[int], order: int) -> list[int]:
    """One minimum for each length.

    Raises:
        UsageError: they fall, are more than ``order``, or leave out words.
    """
    minima = [*min_counts] or [1]
    for count in minima:
        check_type("min_counts", count, Integral, "whole numbers")
    if len(minima) > order or minima != sorted(minima) or minima[0] != 1:
        shown = ",".join(map(str, minima))
        raise UsageError(
            f"minimum counts are {shown}; expected are at most {order}, 1 and then none below "
            "the one before it, as 1,1,2"
        )
    return minima + minima[-1:] * (order - len(minima))


def _numbered(sentences: Iterable[Sequence[str]]) -> tuple[tuple[str, ...], Ints]:
    """The vocabulary, and all sentences in a row: <s> words </s> <s> words </s> ..."""
    ids = {UNKNOWN: _UNKNOWN_ID, BEGIN: _BEGIN_ID, END: _END_ID}
    stream = array("i")
    for sentence in sentences:
        if not sentence:
            continue
        stream.append(_BEGIN_ID)
        for word in sentence:
            stream.append(ids.setdefault(word, len(ids)) if _is_word(word) else _UNKNOWN_ID)
        stream.append(_END_ID)
        if len(stream) > MAX_TEXT_WORDS:
            raise UsageError(
                f"the text has more than {MAX_TEXT_WORDS} words; give less, or use lmplz of KenLM"
            )
    if not stream:
        raise UsageError("the text has no words; give text with one sentence per line")
    return tuple(ids), np.array(stream, np.int64)


def _is_word(word: str) -> bool:
    if word in (BEGIN, END):
        raise UsageError(f"{word} is in the text; it marks where sentences begin or end: remove it")
    return len(word) <= MAX_WORD_CHARS


def _counted(stream: Ints, words: int, minima: list[int]) -> list[_Level]:
    """All n-grams of the stream, shortest first."""
    every = np.arange(words)
    seen = np.bincount(stream, minlength=words)
    levels = [_Level(np.zeros_like(every), every, every, seen, seen, every >= 0)]
    begins = every == _BEGIN_ID  # which n-grams of the last level begin a sentence
    index = stream  # of the n-gram of the last level that ends at each place
    for minimum in minima[1:]:
        places = 1 + np.flatnonzero((index[:-1] != _NONE) & (stream[1:] != _BEGIN_ID))
        keys = index[places - 1] * words + stream[places]
        found, first, inverse, seen = np.unique(
            keys, return_index=True, return_inverse=True, return_counts=True
        )
        context, end = found // words, index[places[first]]
        levels.append(_Level(context, found % words, end, seen, seen, seen >= minimum))
        shorter = levels[-2]
        after = np.bincount(end, minlength=len(shorter.word))
        shorter.count = np.where(begins, shorter.seen, after)
        begins = begins[context]
        index = np.full(len(stream), _NONE)
        index[places] = inverse
    levels[0].count = np.where(every == _BEGIN_ID, 0, levels[0].count)
    return levels


def _smoothed(level: _Level, below: Floats, contexts: int) -> tuple[Floats, Floats]:
    """The probabilities (N,) of a level, and the weights (contexts,) of backing off to it.

    Args:
        below: (N,) the probability of each word without the first one of its context.
    """
    discount = np.array([0.0, *_discounts(level.count)])[np.minimum(level.count, 3)]
    taken = np.where(level.kept, discount, level.count)
    total = np.bincount(level.context, level.count, contexts)
    given = total > 0  # no context: what ends a sentence
    weights = np.where(given, np.bincount(level.context, taken, contexts), 1.0)
    weights /= np.where(given, total, 1.0)
    rest = (level.count - taken) / total[level.context]
    return rest + weights[level.context] * below, weights


def _discounts(counts: Ints) -> tuple[float, float, float]:
    """What is taken from counts of 1, of 2, and of 3 or more."""
    once, twice, thrice, four = np.bincount(counts, minlength=5)[1:5].tolist()
    if min(once, twice, thrice, four) == 0:
        return _USUAL_DISCOUNTS
    part = once / (once + 2 * twice)
    found = (
        1 - 2 * part * twice / once,
        2 - 3 * part * thrice / twice,
        3 - 4 * part * four / thrice,
    )
    return found if min(found) > 0 else _USUAL_DISCOUNTS
