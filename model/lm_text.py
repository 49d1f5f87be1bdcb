"""Text for a language model, a sentence per line, in the words that the models write:
``python -m model.lm_text --text FILE... --recordings FILE... --exclude FILE... > out``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

from edge_asr.audio.recordings import read_recordings
from edge_asr.exits import errors_as_lines
from model.synthesis_texts import mentions, plain, read_lines


def lm_lines(
    texts: Iterable[Path], recordings: Iterable[Path], excluded: Iterable[Path]
) -> Iterator[str]:
    """Sentences of files and the texts of recordings, none that ``mentions`` a text of excluded
    recordings.

    Raises:
        InputMissingError, ConfigError: a file that cannot be read.
    """
    never = mentions(plain(u.text) for path in excluded for u in read_recordings(path))
    lines = [line for path in texts for line in read_lines(path)]
    lines += [u.text for path in recordings for u in read_recordings(path)]
    for line in lines:
        text = plain(line)
        if text and not never(text):
            yield text


@errors_as_lines("model.lm_text")
def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m model.lm_text", description=__doc__)
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="files of sentences")
    parser.add_argument("--recordings", type=Path, nargs="*", default=[], help="of training sets")
    parser.add_argument("--exclude", type=Path, nargs="*", default=[], help="of dev and test sets")
    options = parser.parse_args(arguments)
    for line in lm_lines(options.text, options.recordings, options.exclude):
        print(line)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
