"""``make bench-paper``: three models of the paper's sizes, edge_asr against WeNet, and the limits.

Random checkpoints are made in the folder ``--work`` and kept there, and so are the programs made of
them. Every program runs in a process of its own; the processes take turns (see
``benchmark.paper.rounds``). WeNet's rows need a checkout of WeNet:

    git clone https://github.com/wenet-e2e/wenet
    make bench-paper WENET=wenet
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.limits import Limits, LimitsLibrary, limits_library
from benchmark.page import command_line, page_in, today, write
from benchmark.paper.assembly import figure_rows, load_rows, model_ratios, model_row
from benchmark.paper.floors import Weights, read_routing, stored_bytes
from benchmark.paper.lines import Worker
from benchmark.paper.plots import draw
from benchmark.paper.prepare import make_model, make_package, make_wenet
from benchmark.paper.report import LimitsRow, PaperReport, figures, page
from benchmark.paper.rounds import SWEEP, TASKS, GroupResult, Say, run_group
from benchmark.paper.variants import (
    MODELS,
    WENET,
    Variant,
    groups,
    memory_estimate,
    package_folder,
    programs,
    split,
    wenet_file,
)
from edge_asr.backends.table import BACKENDS
from edge_asr.errors import UsageError
from edge_asr.exits import errors_as_lines
from edge_asr.machine import describe_machine, python_command
from model.config import NetworkConfig, network_config, read_yaml

_PROGRAM = "python -m benchmark.paper"
_HOW_TO_GET_WENET = (
    "WeNet is left out: give a checkout of it with --wenet PATH "
    "(git clone https://github.com/wenet-e2e/wenet)"
)


@dataclass(frozen=True)
class PaperConfig:
    """What the command line asks for."""

    work: Path
    out: Path
    scale: str = "paper"
    wenet: Path | None = None
    models: tuple[str, ...] = MODELS
    threads: tuple[int, ...] = (1, 2)
    backends: tuple[str, ...] = ("onnx",)
    dispatches: tuple[str, ...] = ("portable",)
    precisions: tuple[str, ...] = ("int8",)
    rounds: int = 5
    sweep: bool = False
    command: str = _PROGRAM  # that asks for it
    memory_gb: float | None = None  # for all workers of a group; None: what is free now


@dataclass
class Measured:
    """What has been found so far."""

    limits: dict[int, Limits] = field(default_factory=dict)
    results: list[tuple[int, GroupResult]] = field(default_factory=list)  # with their threads
    exports: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def measure(conf: PaperConfig, say: Say) -> PaperReport:
    """Make what is missing, run everything, compute floors.

    Raises:
        EdgeAsrError: something could not be made. A program that does not load or run is left out
            and named in the report.
    """
    found = Measured()
    variants = _prepare(conf, found, say)
    library = limits_library(conf.work)
    networks = {model: _network(conf.work, model) for model in conf.models}
    memory = {
        v.key: memory_estimate(v, stored_bytes(networks[v.model], Weights(), decoders=True))
        for v in variants
    }
    budget = conf.memory_gb * 1e9 if conf.memory_gb else 0.8 * _free_memory_bytes()
    tasks = [*TASKS, *(SWEEP if conf.sweep else ())]
    for threads in conf.threads:
        for whole_group in groups(variants):
            for group in split(whole_group, memory, budget):
                say(f"{group.name}, threads: {threads}")
                result = run_group(
                    group,
                    partial(_start, conf, threads),
                    tasks,
                    conf.rounds,
                    say,
                    between=partial(_limit, library, threads, found),
                )
                found.results.append((threads, result))
    return _report(conf, found, networks)


def _prepare(conf: PaperConfig, found: Measured, say: Say) -> list[Variant]:
    conf.work.mkdir(parents=True, exist_ok=True)
    variants: list[Variant] = []
    for model in conf.models:
        make_model(conf.work, conf.scale, model, say)
        if conf.wenet is not None:
            found.exports[model] = make_wenet(conf.work, model, conf.wenet, say)
            variants.append(Variant(model, WENET, "torchscript", "portable"))
        ours = programs(model, conf.backends, conf.dispatches, conf.precisions)
        for dispatch in conf.dispatches:
            make_package(conf.work, [v for v in ours if v.dispatch == dispatch], say)
        variants += ours
    if conf.wenet is None:
        say(_HOW_TO_GET_WENET)
        found.left_out.append(_HOW_TO_GET_WENET)
    return variants


def _start(conf: PaperConfig, threads: int, variant: Variant) -> Worker:
    if variant.system == WENET:
        file = str(wenet_file(conf.work, variant.model))
        command = python_command("benchmark.paper.wenet_today", "serve", file)
    else:
        fields = {**vars(variant), "levers": vars(variant.levers)}
        folder = str(package_folder(conf.work, variant.model, variant.dispatch))
        command = python_command("benchmark.paper.worker", folder, json.dumps(fields))
    return Worker([*command, "--threads", str(threads)], threads)


def _limit(library: LimitsLibrary, threads: int, found: Measured) -> None:
    now = library.measure(threads)
    found.limits[threads] = now.best(found.limits.get(threads, now))


def _network(work: Path, model: str) -> NetworkConfig:
    path = work / model / "train.yaml"
    return network_config(read_yaml(path), str(path))


def _free_memory_bytes() -> float:
    pages = os.sysconf("SC_AVPHYS_PAGES") if sys.platform == "linux" else 1 << 20
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def _report(conf: PaperConfig, found: Measured, networks: dict[str, NetworkConfig]) -> PaperReport:
    rows, loads, ratios, left_out = [], [], [], list(found.left_out)
    for threads, result in found.results:
        for (key, task), reason in result.failures.items():
            left_out.append(f"{key}, {task}: {reason}")
        model = result.group.model
        if model is None:
            ratios += model_ratios(result, threads)
            continue
        limits, routing = found.limits[threads], read_routing(conf.work / model)
        rows += figure_rows(result, threads, limits, networks[model], routing)
        loads += load_rows(result, threads, networks[model])
    # Where a group was split, its first variant ran in each part: the last part counts.
    return PaperReport(
        created=today(),
        commit=_commit(),
        command=conf.command,
        scale=conf.scale,
        rounds=conf.rounds,
        machine=describe_machine(),
        limits=tuple(LimitsRow(**vars(limits)) for limits in found.limits.values()),
        models=tuple(model_row(conf.work, name, network) for name, network in networks.items()),
        rows=tuple({(r.model, r.variant, r.threads, r.task): r for r in rows}.values()),
        loads=tuple({(r.model, r.variant, r.threads): r for r in loads}.values()),
        ratios=tuple(ratios),
        left_out=tuple(dict.fromkeys(left_out)),
        exports=found.exports,
    )


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parents[1]), "rev-parse", "--short", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return found.stdout.strip() or "unknown"


@errors_as_lines("benchmark.paper")
def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    options = _parser().parse_args(arguments)
    conf = replace(_config(options), command=command_line(_PROGRAM, arguments))
    out = page_in(conf.out, "paper.md")
    report = measure(conf, say=lambda line: print(line, file=sys.stderr, flush=True))
    write(page(report), figures(report), out, partial(draw, report))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM, description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--work", type=Path, help="default: out/ and the name of the scale")
    add("--out", type=Path, default=Path("docs/benchmarks"), help="default: docs/benchmarks")
    add("--scale", default="paper", help="paper, or tiny to try everything in a minute")
    add("--wenet", type=Path, metavar="PATH", help="a checkout of WeNet")
    add("--models", default=",".join(MODELS), help="comma-separated list of %(default)s")
    add("--threads", default="1,2", help="default: 1,2")
    add(
        "--backends",
        default="onnx",
        help=f"comma-separated list of {', '.join(BACKENDS)} (default: onnx)",
    )
    add("--dispatch", default="portable", help="portable, native or both with a comma")
    add("--precision", default="int8", help="int8, or int8,int4: with int4 experts too")
    add("--rounds", type=int, default=5, help="default: 5")
    add("--sweep", action="store_true", help="chunks of 1 to 499 frames too")
    add("--memory-gb", type=float, help="for all programs loaded at once (default: what is free)")
    return parser


def _config(options: argparse.Namespace) -> PaperConfig:
    models = tuple(options.models.split(","))
    threads = tuple(options.threads.split(","))
    if unknown := set(models) - set(MODELS):
        raise UsageError(f"--models has {min(unknown)!r}; choose from: {', '.join(MODELS)}")
    if not all(count.isdecimal() and 1 <= int(count) <= 64 for count in threads):
        raise UsageError(f"--threads is {options.threads!r}; numbers from 1 to 64 are expected")
    if options.rounds < 1:
        raise UsageError(f"--rounds is {options.rounds}; at least 1 is expected")
    return PaperConfig(
        work=(options.work or Path("out") / options.scale).resolve(),
        out=options.out,
        scale=options.scale,
        wenet=options.wenet.resolve() if options.wenet else None,
        models=models,
        threads=tuple(int(count) for count in threads),
        backends=tuple(options.backends.split(",")),
        dispatches=tuple(options.dispatch.split(",")),
        precisions=tuple(options.precision.split(",")),
        rounds=options.rounds,
        sweep=options.sweep,
        memory_gb=options.memory_gb,
    )


if __name__ == "__main__":
    raise SystemExit(main())
