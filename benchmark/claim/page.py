"""What ``make claim`` found: its figures as JSON, as a page and as a picture."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.page import save_svg, table
from edge_asr.errors import ConfigError, InputMissingError

BASE = "dense-s"
DRAWN = "16"  # the chunk of the picture, in encoder frames


@dataclass
class Trained:
    """One training."""

    name: str
    seed: int
    steps: int
    parameters: int  # of encoder and CTC
    wer: dict[str, dict[str, float]]  # by set and chunk
    experts: list[float]  # distinct ones per chunk of 16, by layer
    measured: str  # the day, and the machine
    package_bytes: int = 0
    time: float | None = None  # of the first seed, as a multiple of the base's within rounds
    rtf: float | None = None


def read_known(path: Path) -> list[Trained]:
    """The figures that an earlier run wrote.

    Raises:
        InputMissingError: it cannot be read. ConfigError: it is something else.
    """
    try:
        return [Trained(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except OSError as error:
        raise InputMissingError(f"{path}: {error.strerror}; leave out --known") from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not figures of benchmark.claim ({error})") from error


def page(found: Sequence[Trained], rounds: int, picture: str | None) -> Iterator[str]:
    """The report in Markdown, rows in the order of ``found``; ``picture`` as ``draw`` wrote it."""
    yield from _page(found, rounds)
    if picture is not None:
        yield f"![word errors against experts per chunk]({picture})"


def _page(found: Sequence[Trained], rounds: int) -> Iterator[str]:
    by_name = _by_name(found)
    yield "# The paper's claim, at a small scale"
    yield ""
    yield (
        "Word errors of the float models, greedy; mean over seeds, in brackets each seed. Time: "
        f"int8, streaming, one thread, {rounds} rounds in turns, median of the ratios to {BASE} on "
        "the same machine, of the first seed there."
    )
    yield ""
    for measured in sorted({trained.measured for trained in found}):
        which = [f"{t.name}-{t.seed}" for t in found if t.measured == measured]
        yield f"* Measured on {measured}: {', '.join(which)}."
    yield ""
    yield "```bash"
    for names, seeds in _trainings(found):
        yield f'make claim RECIPES="{" ".join(names)}" SEEDS="{" ".join(map(str, seeds))}"'
    yield "```"
    yield ""
    for test in found[0].wer:
        yield from _errors(by_name, test)
    yield from _costs(by_name, next(iter(found[0].wer)))


def _by_name(found: Sequence[Trained]) -> dict[str, list[Trained]]:
    grouped: dict[str, list[Trained]] = {}
    for trained in found:
        grouped.setdefault(trained.name, []).append(trained)
    return grouped


def _trainings(found: Sequence[Trained]) -> list[tuple[tuple[str, ...], list[int]]]:
    """Which recipes were trained with which seeds: those with the same recipes together."""
    by_seed: dict[int, list[str]] = {}
    for trained in found:
        by_seed.setdefault(trained.seed, []).append(trained.name)
    together: dict[tuple[str, ...], list[int]] = {}
    for seed, names in sorted(by_seed.items()):
        together.setdefault(tuple(names), []).append(seed)
    return list(together.items())


def _errors(by_name: dict[str, list[Trained]], test: str) -> Iterator[str]:
    chunks = list(next(iter(by_name.values()))[0].wer[test])
    titles = [chunk if chunk == "whole" else f"chunks of {chunk}" for chunk in chunks]
    rows = []
    for name, seeds in by_name.items():
        rows.append([name])
        for chunk in chunks:
            rates = [trained.wer[test][chunk] for trained in seeds]
            each = ", ".join(f"{rate:.1f}" for rate in rates)
            rows[-1].append(f"{statistics.fmean(rates):.1f} ({each})")
    yield f"## {test}"
    yield ""
    yield from table(["recipe", *titles], rows)


def _costs(by_name: dict[str, list[Trained]], heard: str) -> Iterator[str]:
    titles = (
        "recipe", "seeds", "steps", "parameters, M", "int8 encoder, MB", "time", "RTF",
        f"experts per chunk of 16, {heard}",
    )  # fmt: skip
    rows = []
    for name, seeds in by_name.items():
        timed = [trained for trained in seeds if trained.time is not None]
        layers = [count for trained in seeds for count in trained.experts]
        experts = "" if not layers else (
            f"{statistics.fmean(layers):.2f} ({min(layers):.1f} to {max(layers):.1f} by layer)"
        )  # fmt: skip
        cells = (
            name,
            ", ".join(str(trained.seed) for trained in seeds),
            ", ".join(str(steps) for steps in dict.fromkeys(t.steps for t in seeds)),
            f"{seeds[0].parameters / 1e6:.2f}",
            f"{timed[0].package_bytes / 1e6:.1f}",
            ", ".join(f"{trained.time:.2f}" for trained in timed),
            ", ".join(f"{trained.rtf:.4f}" for trained in timed),
            experts,
        )
        rows.append(cells)
    yield "## Size, time and experts"
    yield ""
    yield from table(titles, rows)


def draw(found: Sequence[Trained], path: Path) -> None:
    """Word errors of each set in chunks of 16 against the distinct experts that such a chunk
    touches, a mean over layers, as SVG; dense models as lines. A small point for each seed, a large
    one for their mean."""
    from matplotlib.figure import Figure

    by_name = _by_name(found)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    tests = list(found[0].wer)
    panels = figure.subplots(1, len(tests), squeeze=False)[0]
    for panel, test in zip(panels, tests, strict=True):
        for number, (name, seeds) in enumerate(by_name.items()):
            colour = f"C{number}"
            rates = [trained.wer[test][DRAWN] for trained in seeds]
            if not seeds[0].experts:
                panel.axhline(statistics.fmean(rates), color=colour, linestyle="--", label=name)
                continue
            counts = [statistics.fmean(trained.experts) for trained in seeds]
            panel.plot(counts, rates, ".", color=colour, alpha=0.5)
            panel.plot(
                statistics.fmean(counts), statistics.fmean(rates), "o", color=colour, label=name
            )
        panel.set_title(test)
        panel.set_xlabel("distinct experts per chunk of 16 frames")
        panel.set_ylabel(f"WER, %, chunks of {DRAWN}")
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    save_svg(figure, path)
