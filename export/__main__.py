"""``python -m export CHECKPOINT -o DIR``: a checkpoint becomes a verified package."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, get_args

from edge_asr.errors import UsageError
from edge_asr.exits import errors_as_lines
from edge_asr.package.manifest import Precision, Role
from export.card import read_card, read_metrics
from export.lowerings import LOWERINGS
from export.package import export_package
from export.source import ExportConfig
from quant.checkpoint import GROUP
from quant.linear4 import GROUPS

CLIPS = Path(__file__).parent.parent / "tests" / "data" / "clips.tsv"


@errors_as_lines("export")
def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    options = _parser().parse_args(arguments)
    conf = _config(options)
    export_package(conf, say=lambda line: print(line, file=sys.stderr))
    print(conf.out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    _add_programs(parser)
    _add_interface(parser)
    _add_package(parser)
    return parser


def _add_programs(parser: argparse.ArgumentParser) -> None:
    """Of which checkpoint, and which programs."""
    add = parser.add_argument
    add(
        "checkpoint",
        type=Path,
        help="directory with train.yaml, units.txt and final.pt (or python -m quant's integers)",
    )
    add("-o", "--out", type=Path, required=True, help="directory of the package")
    add(
        "--roles",
        default="encoder,decoder",
        help="encoder, or encoder,decoder for a second pass (default: both)",
    )
    add(
        "--precision",
        default="int8",
        help="comma-separated list of int8, fp32, int4; int4 is int8 with int4 experts "
        "(default: int8)",
    )
    add(
        "--group",
        type=int,
        choices=GROUPS,
        help=f"input channels that share a scale at int4 (default: {GROUP})",
    )
    add(
        "--backends",
        default=",".join(LOWERINGS),
        help=f"comma-separated list of {', '.join(LOWERINGS)} (default: all)",
    )
    add(
        "--dispatch",
        default="portable",
        choices=("portable", "native", "both"),
        help="stock operators, our native operators (make native), or programs of both kinds "
        "(default: portable)",
    )


def _add_interface(parser: argparse.ArgumentParser) -> None:
    """What they can be asked for, and what is asked where nothing else is."""
    add = parser.add_argument
    add("--left-frames", type=int, default=64, help="left context in encoder frames (default: 64)")
    add(
        "--chunk-frames", type=int, default=16, help="default chunk in encoder frames (default: 16)"
    )
    add("--max-chunk-frames", type=int, default=512, help="largest chunk (default: 512)")
    for name in ("ctc", "reverse"):
        add(
            f"--{name}-weight",
            type=float,
            help=f"{name}_weight of the second pass (default: the training's)",
        )
    add(
        "--keep-context",
        action="store_true",
        help="streams go on with the encoder's context over the silence that ended a segment "
        "(default: the encoder starts from zeros there)",
    )


def _add_package(parser: argparse.ArgumentParser) -> None:
    """What the package says of itself, and whether there is one already."""
    add = parser.add_argument
    add("--name", help="name of the package (default: the directory's name)")
    add("--language", default="und", help="language tag, e.g. en (default: und)")
    add("--license", default="unknown", help="licence of the weights")
    add("--speech", type=Path, default=CLIPS, help="recording list to verify with")
    add("--metrics", type=Path, help="JSON file with figures for the manifest")
    add("--card", type=Path, help="README.md of the package (default: a short one is made)")
    add("--replace", action="store_true", help="replace an existing package")
    add(
        "--add",
        action="store_true",
        help="with --roles decoder: add it to the existing package --out, which is of the same "
        "checkpoint; its programs stay as they are",
    )


def _config(options: argparse.Namespace) -> ExportConfig:
    if options.left_frames < 1 or not 1 <= options.chunk_frames <= options.max_chunk_frames:
        raise UsageError(
            "--left-frames must be at least 1 and --chunk-frames between 1 and --max-chunk-frames"
        )
    roles = _choices("--roles", options.roles, get_args(Role))
    if options.add:
        _check_addition(options, roles)
    elif "encoder" not in roles:
        raise UsageError("--roles must name the encoder: a package without one cannot be loaded")
    return ExportConfig(
        checkpoint=options.checkpoint,
        out=options.out,
        name=options.name or options.out.resolve().name,
        roles=roles,
        precisions=_choices("--precision", options.precision, get_args(Precision)),
        backends=_choices("--backends", options.backends, tuple(LOWERINGS)),
        dispatches=("portable", "native") if options.dispatch == "both" else (options.dispatch,),
        left_context=options.left_frames,
        default_chunk=options.chunk_frames,
        max_chunk=options.max_chunk_frames,
        language=options.language,
        license=options.license,
        speech=options.speech,
        metrics=read_metrics(options.metrics) if options.metrics else {},
        card=read_card(options.card) if options.card else None,
        replace=options.replace,
        group=options.group,
        add=options.add,
        ctc_weight=options.ctc_weight,
        reverse_weight=options.reverse_weight,
        fresh_context=not options.keep_context,
    )


def _check_addition(options: argparse.Namespace, roles: tuple[Role, ...]) -> None:
    """UsageError for what would be done to the rest of the package."""
    if roles != ("decoder",):
        raise UsageError(
            "--add takes --roles decoder: the golden vector is of the encoders, which are made "
            "together; for others --replace the package"
        )
    for option in ("name", "language", "license", "replace", "keep-context"):
        dest = option.replace("-", "_")
        if getattr(options, dest) != _parser().get_default(dest):
            raise UsageError(f"--{option} does not go with --add; the package keeps what it has")


def _choices(option: str, given: str, allowed: tuple[str, ...]) -> Any:
    chosen = tuple(dict.fromkeys(given.split(",")))
    for name in chosen:
        if name not in allowed:
            raise UsageError(f"{option} has {name!r}; choose from: {', '.join(allowed)}")
    return chosen


if __name__ == "__main__":
    raise SystemExit(main())
