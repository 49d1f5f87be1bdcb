"""``python -m quant CHECKPOINT -o DIR``: quantize and report, layer by layer."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path

from edge_asr.exits import errors_as_lines
from model.checkpoint import load_checkpoint
from quant.checkpoint import GROUP, INTEGERS, quantize, save_integers
from quant.linear4 import GROUPS


@errors_as_lines("quant")
def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m quant", description=__doc__)
    parser.add_argument(
        "checkpoint", type=Path, help="directory with train.yaml, final.pt, units.txt"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="directory to write")
    parser.add_argument(
        "--precision",
        default="int8",
        choices=("int8", "int4"),
        help="int4: the experts' weights have 4 bits, the rest 8 (default: int8)",
    )
    parser.add_argument(
        "--group",
        type=int,
        choices=GROUPS,
        default=GROUP,
        help=f"input channels that share a scale at int4 (default: {GROUP})",
    )
    options = parser.parse_args(arguments)
    checkpoint = load_checkpoint(options.checkpoint)
    quantized = quantize(checkpoint, options.precision, options.group)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in ("train.yaml", "units.txt"):
        shutil.copyfile(options.checkpoint / name, options.out / name)
    save_integers(quantized, options.out / INTEGERS)
    rows = sorted((asdict(row) for row in quantized.report), key=lambda r: -r["weight_error"])
    report = json.dumps(rows, indent=1, allow_nan=False)
    (options.out / "quant_report.json").write_text(report + "\n")
    worst = rows[0]
    print(f"{len(rows)} layers; largest weight error {worst['weight_error']:.4f} ({worst['name']})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
