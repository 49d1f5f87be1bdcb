"""Units that are tokens of Whisper: so its text decoder knows them from the beginning."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from edge_asr.errors import ConfigError
from model.tokenizer import SPACE, SPECIAL, Tokenizer
from model.whisper.begin import END, NO_TIMES

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ'"
_CANDIDATES = 900  # the first tokens of letters alone, in the order in which they were merged
_OURS = re.compile(r"Ġ?[a-z']+")  # Ġ is the space that a token begins with


def choose_units(texts: Iterable[str], tokenizer: Path, count: int) -> tuple[list[str], list[int]]:
    """The table of units, and Whisper's token for each.

    Args:
        texts: in upper case; pieces that they use least are left out.
        tokenizer: Whisper's ``tokenizer.json``.

    Raises:
        ConfigError: not such a file, or it has not so many tokens of letters.
    """
    try:
        tree = json.loads(tokenizer.read_text(encoding="utf-8"))
        vocabulary: dict[str, int] = tree["model"]["vocab"]
        added = {token["content"]: token["id"] for token in tree["added_tokens"]}
        merges = [m.split(" ") if isinstance(m, str) else m for m in tree["model"]["merges"]]
        end, start = added[END], added[NO_TIMES]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{tokenizer}: not Whisper's tokenizer.json ({error})") from error
    base = [SPACE, *LETTERS]
    table = {unit: vocabulary[_token(unit)] for unit in base}
    for merged in map("".join, merges):
        if _OURS.fullmatch(merged) and merged in vocabulary and len(table) < _CANDIDATES:
            table.setdefault(merged.replace("Ġ", SPACE).upper(), vocabulary[merged])
    words = Counter(word for text in texts for word in text.split())
    wanted = count - len(SPECIAL)
    if len(table) < wanted:
        raise ConfigError(f"{tokenizer}: {len(table)} tokens of letters, {wanted} are asked for")
    while len(table) > wanted:
        used = _use([*SPECIAL, *sorted(table)], words)
        rare = sorted(set(table) - set(base), key=lambda unit: (used[unit], unit))
        for unit in rare[: max(1, (len(table) - wanted + 3) // 4)]:
            del table[unit]
    units = sorted(table)
    # blank and unk are never said; sos and eos are one unit, of two tokens: the decoder reads the
    # one and writes the other, which a little training puts right.
    return [*SPECIAL, *units], [end, end, start, *(table[unit] for unit in units)]


def _token(unit: str) -> str:
    return unit.lower().replace(SPACE, "Ġ")


def _use(symbols: list[str], words: Counter[str]) -> Counter[str]:
    tokenizer = Tokenizer(symbols, pieces=True)
    used: Counter[str] = Counter()
    for word, times in words.items():
        for index in tokenizer.encode(word):
            used[symbols[index]] += times
    return used
