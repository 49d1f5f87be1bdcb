"""From a program of a package to something that runs: the one way, for every role."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

from edge_asr.backends import (
    BACKENDS,
    Decoder,
    DecoderScores,
    Encoder,
    EncoderStep,
    FloatArray,
    IntArray,
    find_backend,
    is_installed,
    open_decoder,
    open_encoder,
    register_operators,
)
from edge_asr.backends.state import State
from edge_asr.errors import BackendError, PackageError, UsageError
from edge_asr.fusion.arpa import parse_ngrams
from edge_asr.fusion.language_model import LanguageModel
from edge_asr.native import library
from edge_asr.native.library import Levers, NativeWeights
from edge_asr.package.files import Package
from edge_asr.package.manifest import Dispatch, Program, Role


class Obstacle(NamedTuple):
    """Why native programs of a backend cannot run here, and what to do."""

    reason: str
    cure: str


def choose_program(
    package: Package,
    role: Role,
    backend: str | None = None,
    precision: str | None = None,
    dispatch: str | None = None,
) -> Program:
    """The program to run.

    Where no backend is asked for, the first of BACKENDS that the package has a program for; those
    of backends that are not among them are passed over. Where no dispatch is asked for, that of
    ``preferred_dispatch``, if there are both.

    Raises:
        UsageError: no backend has that name.
        PackageError: there is none.
        BackendError: there are only native ones, and they cannot run here.
    """
    name = backend or _first_backend(package.manifest.programs, role, precision, dispatch)
    preferred, _ = preferred_dispatch(name)
    program = package.program(role, name, precision, dispatch, preferred)
    if program.native_ops and (obstacle := native_obstacle(name)):
        raise BackendError(
            f"{package.root / program.file}: needs the native operators, and {obstacle.reason}; "
            f"{obstacle.cure}, or export the package with --dispatch both"
        )
    return program


def offers(package: Package, role: Role, backend: str) -> bool:
    """Whether the package has any program of a role for a backend."""
    return any(p.role == role and p.backend == backend for p in package.manifest.programs)


def preferred_dispatch(backend: str, *, trying: bool = True) -> tuple[Dispatch, str]:
    """Whose programs are fastest on this processor, and why.

    Args:
        trying: see ``native_obstacle``.

    Raises:
        UsageError: no backend has that name.
    """
    if obstacle := native_obstacle(backend, trying=trying):
        return "portable", f"{obstacle.reason}; {obstacle.cure}"
    kernel = library.running_kernel()
    if kernel == library.PLAIN_KERNEL:
        return "portable", "no kernel is made for this processor; stock operators beat plain C++"
    return "native", f"kernels run with {kernel}"


def native_obstacle(backend: str, *, trying: bool = True) -> Obstacle | None:
    """Why native programs of a backend cannot run here; None: they can.

    Args:
        trying: open the operators in the backend, which imports it; else only the kernels.

    Raises:
        UsageError: no backend has that name.
    """
    if find_backend(backend).operator_library is None:
        return Obstacle(f"backend {backend!r} has no native operators", "choose another backend")
    if missing := missing_library(backend):
        return Obstacle(f"{missing} is not built", library.BUILD)
    try:
        library.library()
        if trying and is_installed(backend):  # it is for who opens a program to say that it is not
            load_operators(backend)
    except BackendError as error:  # built, and of no use here: of another system, or of another age
        reason, _, cure = str(error).rpartition("; ")
        return Obstacle(reason, cure)
    return None


def missing_library(backend: str) -> str | None:
    """The file that is not built of those that native programs of a backend need."""
    for name in ("kernels", find_backend(backend).operator_library):
        if name is not None and not library.built(name):
            return library.library_path(name).name
    return None


def load_operators(backend: str) -> None:
    """Make the native operators known to a backend.

    Raises:
        UsageError: no backend has that name.
        BackendError: it has none, is not installed, or its library does not fit.
    """
    name = find_backend(backend).operator_library
    if name is None:
        raise BackendError(
            f"backend {backend!r} has no native operators; choose another backend, or export the "
            "package with --dispatch portable"
        )
    register_operators(backend, library.library_path(name))
    library.check_operators(name)


def load_weights(package: Package, program: Program) -> NativeWeights | None:
    """The weights of a native program, read unless they are in memory already; of a portable one
    None.

    Raises:
        PackageError: the file is damaged.
        BackendError: the kernels are not built or refuse it.
    """
    name = program.native_weights
    if name is None:
        return None
    entry = package.entry(name)
    return library.share_weights(
        library.weights_id(entry.sha256),
        entry.bytes,
        lambda memory: package.read_into(name, memory),
    )


def set_levers(package: Package, program: Program, levers: Levers) -> None:
    """Set the levers of a program's weights, which all its streams share.

    Raises:
        UsageError: the program is portable and levers are asked for.
        BackendError: the kernels refuse them.
    """
    weights = load_weights(package, program)
    if weights is not None:
        weights.set_levers(levers)
    elif levers != Levers():
        raise UsageError(
            f"{package.root / program.file}: portable programs have no levers; take a native one, "
            "which python -m export --dispatch both makes"
        )


def as_trained(package: Package, program: Program) -> AbstractContextManager[None]:
    """Without levers inside, whoever set them for the program's weights; those of before after it.

    Raises:
        PackageError, BackendError: see ``load_weights``.
    """
    weights = load_weights(package, program)
    return nullcontext() if weights is None else weights.as_trained()


def load_encoder(package: Package, program: Program, threads: int = 1) -> Encoder:
    """Open an encoder program with its weights.

    Raises:
        PackageError: a file is damaged, or of another export than the program.
        BackendError: the backend is not installed or refuses the program.
    """
    data, spec = package.read_program(program), package.manifest.encoder
    weights = _weights_of(package, program, data)
    if weights is None:
        return open_encoder(program.backend, data, spec, threads)
    return _NativeEncoder(
        open_encoder(program.backend, data, spec, _prepare(program, threads)), weights
    )


def load_decoder(package: Package, program: Program, threads: int = 1) -> Decoder:
    """Open a decoder program with its weights; see ``load_encoder``.

    Raises:
        PackageError: a file is damaged, or the manifest describes no decoder.
        BackendError: the backend is not installed or refuses the program.
    """
    spec = package.manifest.decoder
    if spec is None:
        raise PackageError(f"{package.root}: the manifest describes no decoder; export it again")
    data = package.read_program(program)
    weights = _weights_of(package, program, data)
    if weights is None:
        return open_decoder(program.backend, data, spec, threads)
    return _NativeDecoder(
        open_decoder(program.backend, data, spec, _prepare(program, threads)), weights
    )


def load_language_model(
    package: Package, *, weight: float | None = None, word_bonus: float | None = None
) -> LanguageModel | None:
    """The language model of a package, if it has one; ``weight`` and ``word_bonus`` replace those
    of its manifest.

    Raises:
        PackageError: the file is damaged.
        UsageError: it has none of the words that the units write, or a weight or bonus is out of
            its range.
    """
    spec = package.manifest.language_model
    if spec is None:
        return None
    where = repr(str(package.root / spec.file))
    try:
        ngrams = parse_ngrams(io.BytesIO(package.read(spec.file)), where)
    except UsageError as error:
        raise PackageError(f"{error}, or copy the package again") from error
    return LanguageModel.build(
        ngrams,
        package.units,
        where,
        weight=spec.weight if weight is None else weight,
        word_bonus=spec.word_bonus if word_bonus is None else word_bonus,
    )


def _weights_of(package: Package, program: Program, data: bytes) -> NativeWeights | None:
    """See ``load_weights``; those that the bytes of the program name."""
    weights = load_weights(package, program)
    if weights is not None and not library.names_weights(data, weights.number):
        raise PackageError(
            f"{package.root / program.file}: was made for other weights than "
            f"{program.native_weights}; export the package again"
        )
    return weights


def _prepare(program: Program, threads: int) -> int:
    """Register our operators with the backend; the threads that are left for itself.

    The threads of our kernels serve the process: the last program opened decides.
    """
    load_operators(program.backend)
    library.library().edge_asr_set_threads(threads)
    return 1


@dataclass(frozen=True)
class _NativeEncoder:
    """An encoder that keeps its weights in memory."""

    encoder: Encoder
    weights: NativeWeights

    def step(self, feats: FloatArray, offset: int, state: State) -> EncoderStep:
        """See ``Encoder``."""
        return self.encoder.step(feats, offset, state)


@dataclass(frozen=True)
class _NativeDecoder:
    """A decoder that keeps its weights in memory."""

    decoder: Decoder
    weights: NativeWeights

    def score(
        self, hyps: IntArray, hyp_lengths: IntArray, encoder_out: FloatArray
    ) -> DecoderScores:
        """See ``Decoder``."""
        return self.decoder.score(hyps, hyp_lengths, encoder_out)


def _first_backend(
    programs: Sequence[Program], role: Role, precision: str | None, dispatch: str | None
) -> str:
    offered = {
        program.backend
        for program in programs
        if program.role == role
        and precision in (None, program.precision)
        and dispatch in (None, program.dispatch)
    }
    # A package without any: name the default, and Package.program says what is missing.
    return next((name for name in BACKENDS if name in offered), next(iter(BACKENDS)))
