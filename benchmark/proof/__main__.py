"""``python -m benchmark.proof CHECKPOINT PACKAGE``: bugs put into the weights of a package's native
encoder, and which of them the golden steps of ``load``, ``verify`` and the exporter find.

PACKAGE holds the int8 programs of CHECKPOINT. Besides the steps, all three compare what they always
did: the golden samples, and whole streams; that is not counted here. What the exporter does not
find is compared with the right program on speech, to tell bugs from changes without any effect.
"""

from __future__ import annotations

import ctypes
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmark.options import page_parser
from benchmark.page import Origin, command_line, table, write
from benchmark.proof.mutants import CHANGES, Mutant, mutants
from edge_asr.backends import Encoder, FloatArray
from edge_asr.exits import errors_as_lines
from edge_asr.native.library import kernels, library
from edge_asr.package.files import open_package
from edge_asr.package.manifest import EncoderSpec
from edge_asr.programs.golden_steps import (
    PREFIXES,
    GoldenSteps,
    complaint,
    deviation,
    run_chains,
    sketch,
)
from edge_asr.programs.loading import choose_program, load_encoder, load_weights
from edge_asr.programs.streaming import cut, stream
from edge_asr.streams.recognizer import Recognizer
from export.speech import load_speech
from export.verify_steps import FLOOR, step_reference
from quant.checkpoint import load_at

CLIPS = Path(__file__).parents[2] / "tests" / "data" / "clips.tsv"
JUDGES = ("load", "verify", "exporter")
WITHOUT_EFFECT, MISSED = "without effect", "missed"
SPEECH_STEPS = 40


@dataclass(frozen=True)
class Finding:
    """What came of one mutant: who found it first, or that nobody did."""

    kind: str
    where: str
    outcome: str


@dataclass(frozen=True)
class Figures:
    """What the page is made of."""

    origin: Origin
    experts: int
    experts_not_reached: int
    findings: list[Finding]
    false_alarms: list[str]  # of right programs, by kernel
    right_runs: int


class Bench:
    """An encoder whose weights can be exchanged, and what it is compared with."""

    def __init__(self, recognizer: Recognizer, golden: GoldenSteps, speech: FloatArray) -> None:
        self.encoder: Encoder = recognizer.encoder
        self.spec: EncoderSpec = recognizer.package.manifest.encoder
        self.golden = golden
        self.ends = (*PREFIXES[1:], len(golden.feats))
        weights = load_weights(recognizer.package, recognizer.program)
        assert weights is not None, "a native program"
        self.weights = weights
        self.steps = cut(speech, self.spec)[:SPEECH_STEPS]
        self.right = list(stream(self.encoder, self.steps, self.spec))

    def put(self, data: bytes) -> None:
        """Let the program run with these weights."""
        opened = library()
        memory = opened.edge_asr_allocate(len(data))
        ctypes.memmove(memory, data, len(data))
        assert opened.edge_asr_load(self.weights.number, memory, len(data)) == 0

    def judge(self) -> str:
        """Who finds the weights that are in now; each judge runs what the one before ran, and
        more."""
        for judge, end in zip(JUDGES, self.ends, strict=True):
            some = self.golden.some(slice(end))
            if complaint(deviation(run_chains(self.encoder, some.feats, self.spec),
                                   some.expected), some):  # fmt: skip
                return judge
        return MISSED if self.has_effect() else WITHOUT_EFFECT

    def has_effect(self) -> bool:
        """Whether most steps of speech, each from the right program's state, are otherwise than
        they were."""
        moved, offset = 0, 0
        for step, (state, right) in zip(self.steps, self.right, strict=True):
            found = self.encoder.step(step.feats, offset, state)
            offset += step.keep
            ours, theirs = (sketch(r.encoder_out, r.log_probs, r.state) for r in (found, right))
            moved += not bool((deviation(ours, theirs) <= FLOOR).all())
        return 2 * moved > len(self.steps)


@errors_as_lines("benchmark.proof")
def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = page_parser("benchmark.proof", __doc__)
    parser.add_argument("checkpoint", type=Path, help="directory of a checkpoint")
    parser.add_argument("package", help="package: name or directory")
    parser.add_argument("--mutants", type=int, default=2000, help="how many (default: 2000)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    package = open_package(options.package)
    program = choose_program(package, "encoder", "onnx", "int8", "native")
    recognizer = Recognizer(package, program, load_encoder(package, program))
    (quantized,) = load_at(options.checkpoint, ["int8"])
    spec = package.manifest.encoder
    speech = load_speech(CLIPS, quantized.described.features, spec.input_frames(20 * 16)).joined
    reference = step_reference(quantized.network, quantized.float_network, speech, spec)
    bench = Bench(recognizer, reference.golden, speech)
    false_alarms = list(_right_runs(bench))
    assert program.weights is not None
    data = package.read(program.weights)
    findings = [_finding(bench, mutant) for mutant in mutants(data, range(options.mutants))]
    visits = reference.coverage.visits
    figures = Figures(
        Origin.of(recognizer, command_line(parser.prog, argv), shared=True),
        int(visits.size),
        int((visits == 0).sum()),
        findings,
        false_alarms,
        len(JUDGES) * sum(kernels().values()),
    )
    write(page(figures), figures, options.out)
    return 0


def _right_runs(bench: Bench) -> Iterator[str]:
    """The right program on every kernel of this processor: what is found there is no bug."""
    running = library().edge_asr_kernel()
    for kernel, supported in kernels().items():
        if supported:
            assert library().edge_asr_set_kernel(kernel.encode()) == 0
            if (found := bench.judge()) in JUDGES:
                yield f"{kernel}: {found}"
    assert library().edge_asr_set_kernel(running) == 0


def _finding(bench: Bench, mutant: Mutant) -> Finding:
    bench.put(mutant.data)
    return Finding(mutant.kind, mutant.where, bench.judge())


def page(figures: Figures) -> Iterator[str]:
    """The lines of the page."""
    yield from ("# Bugs that are found", "")
    yield (
        f"{len(figures.findings)} mutants of the native weights of {figures.origin.package}, each "
        "with one bug, and who finds it by golden steps: a judge finds what the one before it "
        "does. Mutants without effect change no step of all "
        "that the exporter runs beyond what is allowed, nor most of those of speech; rates leave "
        "them out."
    )
    yield ""
    yield from figures.origin.lines()
    yield ""
    yield from table(
        ("bug", "mutants", "without effect", *(f"{judge} finds" for judge in JUDGES), MISSED),
        [
            *(_row(kind, [f for f in figures.findings if f.kind == kind]) for kind in CHANGES),
            _row("all", figures.findings),
        ],
    )
    yield ""
    reached = figures.experts - figures.experts_not_reached
    yield (
        f"The exporter's steps visit {reached} of {figures.experts} experts; bugs in the others "
        "have no effect here. Right programs: "
        f"{len(figures.false_alarms)} false alarms in {figures.right_runs} judgements "
        f"({', '.join(figures.false_alarms) or 'every kernel of this processor'})."
    )
    missed = [finding for finding in figures.findings if finding.outcome == MISSED]
    if missed:
        yield from ("", "Missed:", "")
        yield from (f"* {finding.kind}, {finding.where}" for finding in missed)


def _row(title: str, findings: Sequence[Finding]) -> list[str]:
    outcomes = Counter(finding.outcome for finding in findings)
    able = len(findings) - outcomes[WITHOUT_EFFECT]
    row, found = [title, str(len(findings)), str(outcomes[WITHOUT_EFFECT])], 0
    for judge in JUDGES:
        found += outcomes[judge]
        row.append(f"{found / able:.1%}" if able else "")
    return [*row, str(outcomes[MISSED])]


if __name__ == "__main__":
    sys.exit(main())
