"""A tree of sequences in sorted arrays: looked up in many places at once, without a Python loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
NONE = 0  # the root is nobody's child
CODE_POINTS = 0x110000


@dataclass(frozen=True, eq=False)
class Trie:
    """Node 0 is the root. Nodes are numbered level by level, and in a level by parent and label.

    So ``parent * labels + label`` grows with the node, and a child is found by binary search.
    """

    labels: int
    keys: Ints  # (nodes,): that of node i + 1 at i; at the end one that nothing equals
    levels: tuple[int, ...]  # the first node of each depth, and the number of nodes

    @classmethod
    def build(
        cls, groups: Sequence[npt.NDArray[np.integer]], labels: int
    ) -> tuple[Trie, list[Ints]]:
        """The tree of all rows of all groups (N, length), each of labels below ``labels``.

        Returns:
            The tree, and for each group the nodes (N,) where its rows end.
        """
        ends: list[Ints] = [np.zeros(len(group), np.int64) for group in groups]
        keys: list[Ints] = []
        levels = [0, 1]
        for depth in range(max((group.shape[1] for group in groups), default=0)):
            deep = [i for i, group in enumerate(groups) if group.shape[1] > depth]
            wanted = np.concatenate([ends[i] * labels + groups[i][:, depth] for i in deep])
            found, places = np.unique(wanted, return_inverse=True)
            borders = np.cumsum([len(groups[i]) for i in deep])[:-1]
            for i, place in zip(deep, np.split(places, borders), strict=True):
                ends[i] = place + levels[-1]
            keys.append(found)
            levels.append(levels[-1] + len(found))
        keys.append(np.array([np.iinfo(np.int64).max]))
        return cls(labels, np.concatenate(keys), tuple(levels)), ends

    @property
    def nodes(self) -> int:
        """How many there are, the root among them."""
        return len(self.keys)

    def child(self, nodes: Ints, labels: Ints) -> Ints:
        """Where each of nodes (N,) leads by its own of labels (N,); NONE where nowhere."""
        wanted = nodes * self.labels + labels
        places = self.keys.searchsorted(wanted)
        return np.where(self.keys[places] == wanted, places + 1, NONE)

    def parents(self) -> Ints:
        """(nodes,) of each node; the root is its own."""
        return np.concatenate([[0], self.keys[:-1] // self.labels])

    def last_labels(self) -> Ints:
        """(nodes,) the label that leads to each node; 0 for the root."""
        return np.concatenate([[0], self.keys[:-1] % self.labels])


def char_trie(texts: Sequence[str]) -> tuple[Trie, Ints]:
    """The tree of the characters of ``texts`` (N,), and the nodes (N,) where they end."""
    rows: dict[int, list[int]] = {}
    for row, text in enumerate(texts):
        rows.setdefault(len(text), []).append(row)
    groups = [
        np.frombuffer(
            "".join([texts[row] for row in same]).encode("utf-32-le", "surrogatepass"), np.uint32
        )
        .astype(np.int64)
        .reshape(len(same), length)
        for length, same in rows.items()
    ]
    tree, group_ends = Trie.build(groups, CODE_POINTS)
    ends = np.zeros(len(texts), np.int64)
    for places, nodes in zip(rows.values(), group_ends, strict=True):
        ends[places] = nodes
    return tree, ends


def char_node(tree: Trie, text: str) -> int | None:
    """The node that the characters of ``text`` lead to from the root, if any."""
    node = 0
    for char in text:
        key = node * CODE_POINTS + ord(char)
        place = int(tree.keys.searchsorted(key))
        if tree.keys[place] != key:
            return None
        node = place + 1
    return node
