"""What models are measured on, with what is asked of them: names, choices and bounds, no code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from model import synthesis_texts

LETTERS = synthesis_texts.LETTERS
DIGITS = tuple(word for word in synthesis_texts.DIGITS if word != "OH")
# The ten words that keyword spotters are compared by (Warden, 1804.03209, section 7.1).
KEYWORDS = frozenset("YES NO UP DOWN LEFT RIGHT ON OFF STOP GO".split())
# Speakers of speechocean762's test set who were 18 or older (the corpus's own test/spk2age).
ADULTS = frozenset(
    """
    1030 1037 1039 1099 1109 1135 1156 1181 1186 1228 1292 1293 1334 1408 1420 2002 2016 2031
    2112 2116 2252 2327 2355 2438 2441 2448 2451 2488 2538 2740 2892 2897 2917 2937 9601 9608
    9610 9612 9617 9618 9622 9623 9626 9629 9631 9633 9635 9640 9647 0024 0120 0157 0306 0457
    0461 0563 0567 0736 0765 0811 0981
    """.split()
)

Model = Literal["commands", "english"]
# "words": word error rate; "clips": the share of clips whose text is not right;
# "false words": words per minute where nobody says any.
Measure = Literal["words", "clips", "false words"]


@dataclass(frozen=True)
class Task:
    """One row of the table. ``path`` is relative to the folders of data: a recording list, or for
    false words a folder of noises. Only utterances by ``speakers`` and of one word of
    ``vocabulary`` count, where those are given. ``grammar`` holds the phrases that the search may
    choose from, if not any. ``quiet_s`` of a quiet room are put before and after recordings that
    were cut without: a microphone is open before somebody speaks."""

    name: str
    model: Model
    measure: Measure
    path: str
    must: float
    aim: float
    vocabulary: frozenset[str] = frozenset()
    speakers: frozenset[str] = frozenset()
    grammar: tuple[str, ...] = ()
    quiet_s: float = 0.0


TASKS = (
    Task("an4 test", "commands", "words", "an4/test.tsv", 8, 3),
    Task(
        "speech_commands test, keywords and digits", "commands", "clips",
        "speech_commands/test.tsv", 12, 5, vocabulary=KEYWORDS.union(DIGITS),
    ),
    Task("spoken letters and digits", "commands", "clips", "spelled/test.tsv", 15, 9),
    Task(
        "the same, with quiet around", "commands", "clips", "spelled/test.tsv", 15, 9, quiet_s=0.5,
    ),
    Task(
        "the same, with quiet and a grammar of them", "commands", "clips", "spelled/test.tsv",
        15, 9, grammar=(*LETTERS, *DIGITS), quiet_s=0.5,
    ),
    Task(
        "speechocean762 test, adults", "english", "words", "speechocean762/test.tsv", 45, 25,
        speakers=ADULTS,
    ),
    Task("librispeech dev", "english", "words", "librispeech/dev.tsv", 60, 35),
    Task("noise and silence", "commands", "false words", "noise", 5, 0),
    Task("noise and silence", "english", "false words", "noise", 5, 0),
)  # fmt: skip
