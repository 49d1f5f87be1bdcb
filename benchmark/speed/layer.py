"""One expert layer against the limits of the machine, and against its portable lowerings.

A program is a chain of expert layers, each on a residual, with enough of them that their weights do
not fit any cache: what a layer finds in a model. Programs take turns, and a figure is the median of
the rounds.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.limits import LIBRARY, Limits, LimitsLibrary
from benchmark.page import Origin, command_line, page_in, table, write
from edge_asr.backends.executorch_binding import choose_binding
from edge_asr.backends.onnx_runtime import open_session
from edge_asr.exits import errors_as_lines
from edge_asr.native.library import NativeWeights, library
from edge_asr.package.manifest import BackendName
from export.executorch_layers import row_feed_forward
from export.lowerings import lowering
from export.native import load, pack
from export.program import Interface
from export.to_executorch import to_edge
from model.config import FeedForwardConfig
from model.feed_forward import MoeFeedForward
from quant.linear import quantize_linear
from quant.plan import quantizable, replace_module

COLD_BYTES = 192 << 20  # of weights in a chain
EXPERTS, TOP_K = 8, 2
MAX_ROWS = 512
# (width, rows)
CASES = ((1024, 1), (1024, 4), (1024, 16), (1024, 64), (1024, 500), (512, 16), (512, 500))
PORTABLE: tuple[BackendName, ...] = ("onnx", "executorch", "torchscript")


@dataclass(frozen=True)
class Figure:
    """One case: milliseconds a layer, and what they are compared with."""

    dim: int
    rows: int
    native_ms: float
    experts: float  # touched by a call
    read_gb_per_s: float
    of_bandwidth: float
    gmac_per_s: float
    of_peak: float
    portable_ms: dict[str, float]

    @property
    def to_best_portable(self) -> float | None:
        """Native time over the best portable one's, where there is one."""
        return self.native_ms / min(self.portable_ms.values()) if self.portable_ms else None


class Chain(nn.Module):
    """Expert layers one after another, so that a run reads all their weights."""

    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        conf = FeedForwardConfig(
            hidden=4 * dim, activation="swish", n_expert=EXPERTS, n_expert_activated=TOP_K
        )
        self.layers = nn.ModuleList(random_layer(dim, conf) for _ in range(count))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """x (1, T, D) to the same."""
        for layer in self.layers:
            x = x + layer(self.norm(x))
        return x


def random_layer(dim: int, conf: FeedForwardConfig) -> MoeFeedForward:
    """A quantized layer whose router spreads random rows evenly."""
    layer = MoeFeedForward(dim, conf).eval().requires_grad_(False)
    nn.init.normal_(layer.gate.weight)
    for name, linear in list(quantizable(layer)):
        replace_module(layer, name, quantize_linear(linear.weight, linear.bias))
    return layer


def interface(dim: int, rows: int) -> Interface:
    """x (1, T, D) to y (1, T, D)."""
    axes = {"x": {1: "T"}, "y": {1: "T"}}
    example = (torch.randn(1, rows, dim),)
    return Interface("encoder", ("x",), ("y",), axes, {"T": MAX_ROWS}, example)


def run_native(weights: NativeWeights, layers: list[int], x: np.ndarray) -> Callable[[], object]:
    """The layers through the library, without a runtime around them."""

    def run() -> None:
        for layer in layers:
            weights.run(layer, x)

    return run


class RowChain(nn.Module):
    """A ``Chain`` in the forms that ExecuTorch's lowering takes, over rows (T, D)."""

    def __init__(self, chain: Chain, max_rows: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(row_feed_forward(layer, max_rows) for layer in chain.layers)
        self.norm = chain.norm

    def forward(self, rows: Tensor) -> Tensor:
        """rows (T, D) to the same."""
        for layer in self.layers:
            rows = rows + layer(self.norm(rows))
        return rows


def open_portable(backend: BackendName, chain: Chain, x: np.ndarray) -> Callable[[], object]:
    """A portable program, ready to run."""
    if backend == "executorch":
        rows = torch.from_numpy(x[0])
        shapes = ({0: torch.export.Dim("T", min=1, max=MAX_ROWS)},)
        edge = to_edge(RowChain(chain, MAX_ROWS).eval(), (rows,), shapes)
        method = choose_binding()(bytes(edge.to_executorch().buffer), 1)
        return lambda: method.run([x[0]])
    data = lowering(backend)[0](chain, interface(x.shape[2], x.shape[1]))
    if backend == "onnx":
        session = open_session(data, threads=1)
        return lambda: session.run(None, {"x": x})
    module = torch.jit.load(io.BytesIO(data)).eval()
    tensor = torch.from_numpy(x)

    def run() -> None:
        with torch.inference_mode(), torch.jit.optimized_execution(False):
            module(tensor)

    return run


def measure(dim: int, rows: int, portable: tuple[BackendName, ...], rounds: int) -> Figure:
    """One case, all programs in turns."""
    torch.manual_seed(dim + rows)
    bytes_of_expert = 2 * dim * 4 * dim
    count = max(2, COLD_BYTES // (EXPERTS * bytes_of_expert))
    chain = Chain(dim, count).eval()
    x = np.random.default_rng(rows).normal(size=(1, rows, dim)).astype(np.float32)
    weights = load(pack(chain))
    runs = {"native": run_native(weights, list(range(count)), x)}
    for backend in portable:
        runs[backend] = open_portable(backend, chain, x)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    weights.counters()
    limits, rates = LimitsLibrary(LIBRARY), list[Limits]()
    for _ in range(rounds):
        rates.append(limits.measure(1))
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - began) / count)
    counters = weights.counters()
    experts = counters.experts / counters.calls
    bandwidth = median(rate.read_bytes_per_s for rate in rates)
    peak = median(rate.int8_macs_per_s for rate in rates)
    seconds = median(times.pop("native"))
    read, macs = experts * bytes_of_expert / seconds, rows * TOP_K * bytes_of_expert / seconds
    return Figure(
        dim, rows, seconds * 1e3, experts, read / 1e9, read / bandwidth, macs / 1e9, macs / peak,
        {name: median(found) * 1e3 for name, found in times.items()},
    )  # fmt: skip


def cells(figure: Figure) -> tuple[str, ...]:
    """A row of the page."""
    ratio, portable_ms = figure.to_best_portable, figure.portable_ms.values()
    return (
        str(figure.dim),
        str(figure.rows),
        f"{figure.native_ms:.3f}",
        f"{figure.experts:.1f}",
        f"{figure.read_gb_per_s:.1f}",
        f"{figure.of_bandwidth:.0%}",
        f"{figure.gmac_per_s:.0f}",
        f"{figure.of_peak:.0%}",
        f"{min(portable_ms):.2f}" if portable_ms else "",
        "" if ratio is None else f"{ratio:.2f}",
    )


@dataclass(frozen=True)
class Report:
    """All cases, and where they were measured."""

    origin: Origin
    kernel: str
    rounds: int
    figures: list[Figure]


def page(report: Report) -> Iterator[str]:
    """The lines of the page."""
    yield from (
        "# One expert layer",
        "",
        "8 experts, top-2, hidden 4 d, int8, random rows, cold weights, one thread, kernel "
        f"{report.kernel}; median of {report.rounds} rounds. Bandwidth and int8 peak are measured "
        "in every round.",
        "",
        report.origin.measured_on(),
        "",
        "```bash",
        report.origin.command,
        "```",
        "",
    )
    titles = ("d", "T", "ms", "experts", "GB/s", "of bandwidth", "GMAC/s", "of int8 peak",
              "best portable, ms", "native / portable")  # fmt: skip
    yield from table(titles, map(cells, report.figures))


@errors_as_lines("benchmark.speed.layer")
def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.speed.layer", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    options = parser.parse_args(arguments)
    out = page_in(options.out, "layer.md")
    torch.set_num_threads(1)
    library().edge_asr_set_threads(1)
    figures = []
    for dim, rows in CASES:
        portable = PORTABLE if rows == 16 else ()
        figures.append(measure(dim, rows, portable, options.rounds))
        print(" | ".join(cells(figures[-1])), file=sys.stderr, flush=True)
    kernel = library().edge_asr_kernel().decode()
    command = command_line(parser.prog, arguments)
    origin = Origin("random weights", "native", "int8", command, shared=False)
    report = Report(origin, kernel, options.rounds, figures)
    write(page(report), report, out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
