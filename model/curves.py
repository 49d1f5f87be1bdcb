"""What a training's log says, as a picture: ``python -m model.curves FOLDER... -o curves.svg``.

Above the loss per utterance, below the word error rate of every dev set, by step; one line per
folder and set.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_asr.errors import ConfigError, InputMissingError
from edge_asr.exits import errors_as_lines


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The rows of ``log.jsonl``: step, loss and wer.

    Raises:
        InputMissingError: there is no log. ConfigError: it is damaged or empty.
    """
    path = folder / "log.jsonl"
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        # Of a training that was killed and went on, a step may have two rows.
        found = list(
            {
                row["step"]: {"step": row["step"], "loss": row["loss"], "wer": dict(row["wer"])}
                for row in rows
            }.values()
        )
    except OSError as error:
        raise InputMissingError(f"{path}: {error.strerror}; is {folder} a training's?") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a log of model.train ({error})") from error
    if not found:
        raise ConfigError(f"{path}: is empty; train longer than train.eval_every steps")
    return found


def draw(folders: Sequence[Path], out: Path) -> None:
    """Write the picture; see ``read_log`` for errors."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    losses, errors = figure.subplots(2, 1, sharex=True)
    for folder in folders:
        rows = read_log(folder)
        steps = [row["step"] for row in rows]
        losses.plot(steps, [row["loss"] for row in rows], label=folder.name)
        for name in dict.fromkeys(name for row in rows for name in row["wer"]):
            label = f"{folder.name}: {name.removesuffix('.tsv')}"
            errors.plot(steps, [row["wer"].get(name, math.nan) for row in rows], label=label)
    losses.set_ylabel("loss per utterance")
    errors.set_ylabel("WER of dev, %, greedy, chunks of 16")
    errors.set_xlabel("step")
    errors.set_ylim(bottom=0)
    for axes in (losses, errors):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    with matplotlib.rc_context({"svg.hashsalt": "curves"}):  # the same log, the same file
        figure.savefig(out, format="svg", metadata={"Date": None})


@errors_as_lines("model.curves")
def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m model.curves", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="+", help="what model.train wrote into")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    draw(options.folder, options.out)
    print(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
