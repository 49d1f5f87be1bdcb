"""A tree in arrays against a tree of dictionaries."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.fusion.trie import NONE, Trie

LABELS = 4
SEQUENCES = st.lists(
    st.lists(st.integers(0, LABELS - 1), min_size=1, max_size=5).map(tuple), max_size=30
)


def grouped(sequences: list[tuple[int, ...]]) -> list[np.ndarray]:
    lengths = sorted({len(one) for one in sequences})
    return [np.array([s for s in sequences if len(s) == length]) for length in lengths]


@given(SEQUENCES)
@settings(max_examples=60, deadline=None)
def test_every_beginning_is_one_node_and_nothing_else_is(sequences: list[tuple[int, ...]]) -> None:
    groups = grouped(sequences)
    trie, ends = Trie.build(groups, LABELS)
    beginnings = {one[:length] for one in sequences for length in range(len(one) + 1)} | {()}
    assert trie.nodes == len(beginnings)
    node_of = {(): 0}
    for beginning in sorted(beginnings, key=len):
        origin = np.full(LABELS, node_of[beginning])
        for label, node in enumerate(trie.child(origin, np.arange(LABELS)).tolist()):
            longer = (*beginning, label)
            assert (node != NONE) == (longer in beginnings)
            if node != NONE:
                node_of[longer] = node
                assert trie.parents()[node] == node_of[beginning]
                assert trie.last_labels()[node] == label
                assert trie.levels[len(longer)] <= node < trie.levels[len(longer) + 1]
    assert sorted(node_of.values()) == list(range(trie.nodes))
    for group, nodes in zip(groups, ends, strict=True):
        assert nodes.tolist() == [node_of[tuple(row)] for row in group.tolist()]
