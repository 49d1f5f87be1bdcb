"""The n-grams of a model as an automaton over words: contexts, and how to back off from them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_asr.errors import UsageError
from edge_asr.fusion.arpa import Ngrams
from edge_asr.fusion.trie import NONE, Ints, Trie

Floats = npt.NDArray[np.float64]
NO_CONTEXT = 0  # nothing is known of the words before


@dataclass(frozen=True, eq=False)
class NgramContexts:
    """Each n-gram is a node of a tree of words; those below the longest are contexts of others.

    A context is looked up together with all those it backs off to, so nothing depends on how far
    a word must back off.
    """

    _trie: Trie
    _log_probs: npt.NDArray[np.float32]  # (nodes,)
    _behind: Ints  # (nodes,) the context behind each n-gram: itself, or what is left of a longest
    _chains: Ints  # (contexts, order) each one, what it backs off to, and so on to no context
    _weights: npt.NDArray[np.float32]  # (contexts, order) of backing off as far

    @classmethod
    def build(cls, ngrams: Ngrams, where: str) -> NgramContexts:
        """The automaton of ``ngrams``, whose file is ``where``.

        Raises:
            UsageError: an n-gram is listed twice.
        """
        orders = ngrams.orders
        trie, ends = Trie.build([order.words for order in orders], len(ngrams.words))
        log_probs = np.full(trie.nodes, np.nan, np.float32)
        backoffs = np.zeros(trie.nodes, np.float32)
        for order, nodes in zip(orders, ends, strict=True):
            times = np.bincount(nodes, minlength=1)
            if times.max() > 1:
                row = order.words[times[nodes].argmax()]
                text = " ".join(ngrams.words[word] for word in row)[:80]
                raise UsageError(f"{where}: {text!r} is listed twice; estimate the model again")
            log_probs[nodes] = order.log_probs
            backoffs[nodes] = order.backoffs
        count = trie.levels[-2]
        contexts = cls(
            trie,
            log_probs,
            np.arange(trie.nodes),
            np.zeros((count, len(orders)), np.int64),
            np.zeros((count, len(orders)), np.float32),
        )
        contexts._link(backoffs)
        return contexts

    def _link(self, backoffs: npt.NDArray[np.float32]) -> None:
        """Fill in what follows from shorter n-grams, level by level.

        A file may list an n-gram without its beginning or its end (pruning does that). The tree
        has the beginning as a node, with the probability that backing off gives.
        """
        parents, words = self._trie.parents(), self._trie.last_labels()
        for begin, end in itertools.pairwise(self._trie.levels[1:]):
            level = slice(begin, end)
            shorter = np.zeros(end - begin, np.int64)
            if begin > 1:
                parent = parents[level]
                scores, shorter = self._find(self._chains[parent, 1], words[level])
                own = self._log_probs[level]
                self._log_probs[level] = np.where(np.isnan(own), scores + backoffs[parent], own)
            if end <= len(self._chains):
                self._chains[level, 0] = np.arange(begin, end)
                self._chains[level, 1:] = self._chains[shorter, :-1]
                self._weights[level, 1:] = backoffs[level, None] + self._weights[shorter, :-1]
            else:
                self._behind[level] = shorter

    def follow(self, contexts: Ints, words: Ints) -> tuple[Floats, Ints]:
        """Each of contexts (N,) by its own of words (N,).

        Returns:
            Natural log-probabilities (N,) of the words there, and the contexts (N,) behind them.
        """
        scores, nodes = self._find(contexts, words)
        return scores, self._behind[nodes]

    def _find(self, contexts: Ints, words: Ints) -> tuple[Floats, Ints]:
        """The log-probabilities (N,), and the longest n-grams (N,) that say so."""
        nodes = self._trie.child(self._chains[contexts], words[:, None])
        turns = (nodes != NONE).argmax(axis=1)  # without context every word is found
        nodes = nodes[np.arange(len(nodes)), turns]
        return self._weights[contexts, turns].astype(np.float64) + self._log_probs[nodes], nodes
