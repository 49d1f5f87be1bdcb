"""``python -m benchmark.shortage PACKAGE``: native programs in forked processes, and where
the system gives no more memory or threads.

Each trial is a forked process that runs a step. It ends well with the bits that the parent gets,
or with an exception of Python; it ends badly with other bits, when it dies, or when it hangs.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import resource
import select
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from benchmark.options import add_package, page_parser
from benchmark.page import Origin, command_line, table, write
from edge_asr.backends import BACKENDS, Encoder, EncoderStep, open_encoder
from edge_asr.backends.state import zero_state
from edge_asr.errors import UsageError
from edge_asr.exits import errors_as_lines
from edge_asr.native.library import library
from edge_asr.package.files import Package, open_package
from edge_asr.programs.loading import load_encoder

CHUNKS = (1, 4, 16)  # encoder frames of a step
THREADS = (1, 2, 4, 16, 64)
MOST_THREADS = 64  # that the kernels make
MEMORY_BYTES = 96 << 20  # twice what a fresh encoder, a step and some threads need
LIMIT_S = 60.0
RIGHT, WRONG, HANGS = "right", "wrong bits", "hangs"
_FIRST_USER = 20_000  # of those that nobody is
_ARENA_MAX = -8  # of the C library's mallopt


@dataclass(frozen=True)
class Row:
    """The trials of one kind: how many ended how. ``errors`` are exceptions, by their type."""

    backend: str
    kind: str
    trials: int
    right: int
    errors: dict[str, int]
    bad: dict[str, int]


@dataclass(frozen=True)
class Report:
    """All kinds of trials of all backends."""

    origin: Origin
    seed: int
    rows: list[Row] = field(default_factory=list)


class Subject:
    """The native encoder of a backend, with two threads, and what it gives."""

    def __init__(self, package: Package, backend: str) -> None:
        self._program = package.program("encoder", backend, "int8", "native")
        self._spec = package.manifest.encoder
        self._bytes = package.read_program(self._program)
        self._state = zero_state(self._spec)
        self._encoder = load_encoder(package, self._program, 2)
        rng, bins = np.random.default_rng(0), package.manifest.features.num_mel_bins
        self._feats = [
            rng.normal(10, 1, (1, self._spec.input_frames(chunk), bins)).astype(np.float32)
            for chunk in CHUNKS
        ]
        self._expected = [_bits(self._step(self._encoder, i)) for i in range(len(CHUNKS))]

    def reopened(self, threads: int) -> Encoder:
        """Another encoder of the same bytes and weights; the kernels have so many threads."""
        library().edge_asr_set_threads(threads)
        return open_encoder(self._program.backend, self._bytes, self._spec)

    def verdict(self, number: int, encoder: Encoder | None = None) -> str:
        """Whether one of the steps is right, bit by bit."""
        found = _bits(self._step(encoder or self._encoder, number))
        return RIGHT if found == self._expected[number] else WRONG

    def _step(self, encoder: Encoder, number: int) -> EncoderStep:
        return encoder.step(self._feats[number], 0, self._state)


def _bits(step: EncoderStep) -> list[bytes]:
    return [array.tobytes() for array in (step.encoder_out, step.log_probs, *step.state)]


def outcome(work: Callable[[], str], limit_s: float = LIMIT_S) -> str:
    """What ``work`` returns in a forked process, the name of the exception that it raises, or how
    that process ends."""
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as log:
        pid = os.fork()
        if pid == 0:
            _run_child(work, writing, log.fileno())
        os.close(writing)
        with os.fdopen(reading, "rb", buffering=0) as answer:
            ready = select.select([answer], [], [], limit_s)[0]
            if not ready:
                os.kill(pid, signal.SIGKILL)
            text = answer.read().decode() if ready else HANGS
        _, status = os.waitpid(pid, 0)
        if ready and (status or not text):
            log.seek(0)
            lines = log.read().decode(errors="replace").splitlines()
            last = [line.strip() for line in lines if line.strip()][-1:]
            return f"dies: status {status}, {' '.join(last)}".strip()
    return text


def _run_child(work: Callable[[], str], writing: int, log: int) -> None:
    """Never returns."""
    os.dup2(log, 2)
    try:
        text = work()
    except BaseException as error:
        with contextlib.suppress(ValueError, OSError):
            limit_memory(resource.RLIM_INFINITY)
        text = type(error).__name__
    os.write(writing, text.encode())
    os._exit(0)


def used_bytes() -> int:
    """Of this process, as its limit of memory counts."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def limit_memory(most_bytes: int) -> None:
    """From now on the process has no more than so many bytes."""
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, resource.RLIM_INFINITY))


def take_what_is_free(used: int) -> list[object]:
    """Memory that the process has and does not use, in ever smaller pieces. It stays limited."""
    limit_memory(used)
    pieces: list[object] = []
    for size in (1 << 20, 1 << 16, 1 << 12):
        with contextlib.suppress(MemoryError):
            while True:
                pieces.append(np.empty(size, np.uint8))
    return pieces


def limit_threads(most: int, user: int) -> None:
    """So many for this process, as a user that has no other; root has no limit. Without the right
    to be another user: no more than there are."""
    if os.getuid() == 0:
        os.setuid(user)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def fork_trials(subject: Subject, count: int, rng: random.Random) -> Iterator[str]:
    """Forks while another thread runs steps on two threads of the kernels; the forked process runs
    the parent's encoder."""
    ended = threading.Event()

    def stream() -> str:
        found = RIGHT
        while not ended.is_set() and found == RIGHT:
            found = subject.verdict(0)
        return found

    with ThreadPoolExecutor(1) as pool:
        streaming = pool.submit(stream)
        try:
            for _ in range(count):
                yield outcome(partial(subject.verdict, rng.randrange(len(CHUNKS))))
        finally:
            ended.set()
    if streaming.result() != RIGHT:
        yield f"{WRONG} in the parent"


def thread_trials(subject: Subject, numbers: Sequence[int], rng: random.Random) -> Iterator[str]:
    """A step with each of these numbers of threads, which there must be."""

    def run(threads: int, number: int) -> str:
        found = subject.verdict(number, subject.reopened(threads))
        return found if library().edge_asr_threads() == threads else "another number of threads"

    for threads in numbers:
        yield outcome(partial(run, threads, rng.randrange(len(CHUNKS))))


def memory_trials(subject: Subject, count: int, rng: random.Random) -> Iterator[str]:
    """RLIMIT_AS, anywhere: while an encoder is opened or while it runs, in a thread that never
    called it before; half of them in a process whose free memory was taken."""

    def run(threads: int, number: int, more_bytes: int, opens: bool, is_full: bool) -> str:
        if is_full:  # threads have no stock of memory of their own
            ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(int).result()  # the thread begins before the limit
            used = used_bytes()
            taken = take_what_is_free(used) if is_full else None
            limit_memory(used + more_bytes)
            encoder = subject.reopened(threads) if opens else None
            found = pool.submit(subject.verdict, number, encoder).result()
            del taken
        return found

    for _ in range(count):
        more_bytes = int(MEMORY_BYTES * rng.random() ** 3)  # most of them where it is scarce
        threads, number = rng.choice(THREADS), rng.randrange(len(CHUNKS))
        is_full, opens = rng.random() < 0.5, rng.random() < 0.5
        yield outcome(partial(run, threads, number, more_bytes, opens, is_full))


def process_trials(subject: Subject, count: int, rng: random.Random) -> Iterator[str]:
    """RLIMIT_NPROC, anywhere."""

    def run(user: int, most: int, threads: int, number: int) -> str:
        limit_threads(most, user)
        return subject.verdict(number, subject.reopened(threads))

    for user in range(_FIRST_USER, _FIRST_USER + count):
        most, number = rng.randrange(MOST_THREADS + 4), rng.randrange(len(CHUNKS))
        yield outcome(partial(run, user, most, rng.choice(THREADS), number))


def row(backend: str, kind: str, outcomes: Iterator[str]) -> Row:
    """The outcomes counted."""
    counted = Counter(outcomes)
    right = counted.pop(RIGHT, 0)
    is_error = {text: text.isidentifier() and text != HANGS for text in counted}
    return Row(
        backend=backend,
        kind=kind,
        trials=right + counted.total(),
        right=right,
        errors={text: count for text, count in counted.items() if is_error[text]},
        bad={text: count for text, count in counted.items() if not is_error[text]},
    )


def measure(package: Package, forks: int, points: int, seed: int) -> Iterator[Row]:
    """All kinds of trials of each backend that the package has native programs for.

    Raises:
        EdgeAsrError: a program cannot be opened.
    """
    for backend in BACKENDS:
        if not any(
            program.role == "encoder" and program.backend == backend and program.native_ops
            for program in package.manifest.programs
        ):
            continue
        subject, rng = Subject(package, backend), random.Random(seed)
        yield row(backend, "forks", fork_trials(subject, forks, rng))
        numbers = range(1, MOST_THREADS + 1)
        yield row(backend, "threads", thread_trials(subject, numbers, rng))
        yield row(backend, "RLIMIT_AS", memory_trials(subject, points, rng))
        yield row(backend, "RLIMIT_NPROC", process_trials(subject, points, rng))


def page(report: Report) -> Iterator[str]:
    """The lines of the page."""
    yield from (
        "# Native programs where the system gives no more",
        "",
        "Each trial is a forked process that runs a step of 1, 4 or 16 frames. `forks`: while "
        "the parent runs steps on two threads. `threads`: with 1 to 64 threads of the kernels. "
        "`RLIMIT_AS`, `RLIMIT_NPROC`: at a random limit of memory or of threads. Right are the "
        "parent's bits; exceptions of Python are allowed where there is a limit; all else is bad: "
        f"other bits, a process that dies, one that gives nothing for {LIMIT_S:.0f} s.",
        "",
        f"{report.origin.measured_on()}; the native int8 encoders of `{report.origin.package}`.",
        "",
        "```bash",
        report.origin.command,
        "```",
        "",
    )
    yield from table(("backend", "trials", "number", "right", "exceptions", "bad"),
                     map(_cells, report.rows))  # fmt: skip


def _cells(one: Row) -> list[str]:
    listed = [
        ", ".join(f"{count} {text}" for text, count in sorted(found.items())) or "0"
        for found in (one.errors, one.bad)
    ]
    return [one.backend, one.kind, str(one.trials), str(one.right), *listed]


@errors_as_lines("benchmark.shortage")
def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 1 where something ended badly."""
    parser = page_parser("benchmark.shortage", __doc__)
    add_package(parser)
    add = parser.add_argument
    add("--forks", type=int, default=1000, help="(default: %(default)s)")
    add("--points", type=int, default=200, help="of each limit (default: %(default)s)")
    add("--seed", type=int, default=0, help="(default: %(default)s)")
    options = parser.parse_args(argv)
    if min(options.forks, options.points) < 1:
        raise UsageError("--forks and --points must be 1 or more")
    package = open_package(options.package)
    rows = []
    for one in measure(package, options.forks, options.points, options.seed):
        rows.append(one)
        print(*_cells(one), sep=", ", file=sys.stderr, flush=True)
    if not rows:
        raise UsageError(f"{package.root}: has no native encoder; export it with --dispatch both")
    command = command_line(parser.prog, argv)
    origin = Origin(package.manifest.name, rows[0].backend, "int8", command, shared=False)
    report = Report(origin, options.seed, rows)
    write(page(report), report, options.out)
    return int(any(one.bad for one in rows))


if __name__ == "__main__":
    sys.exit(main())
