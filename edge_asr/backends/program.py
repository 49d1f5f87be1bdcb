"""A loaded program: what a backend makes of its bytes, and encoders and decoders of that.

A backend's module offers ``load_method``, which gives a ``Method``: arrays in, arrays out. That it
fits the manifest is checked here, for all backends alike, as far as the program says what it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn, Protocol, cast

import numpy as np
import numpy.typing as npt

from edge_asr.backends.calls import library_call
from edge_asr.backends.state import State
from edge_asr.backends.table import Backend
from edge_asr.errors import BackendError
from edge_asr.package.manifest import DecoderSpec, EncoderSpec

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Arrays = Sequence[npt.NDArray[np.generic]]


@dataclass(frozen=True)
class EncoderStep:
    """One step's result: encoder_out (1, T', D), log_probs (1, T', V) and the next state."""

    encoder_out: FloatArray
    log_probs: FloatArray
    state: State

    def is_finite(self, keep: int) -> bool:
        """Whether its first ``keep`` frames, and the state that the next step would begin with,
        are numbers; a log-probability may be minus infinity."""
        best = self.log_probs[0, :keep].max(axis=1)
        with np.errstate(over="ignore", invalid="ignore"):  # a sum is cheap, and hides nothing
            sums = [array.sum() for array in (best, self.encoder_out[0, :keep], *self.state)]
        return bool(np.isfinite(sums).all())


class Encoder(Protocol):
    """A loaded encoder program. ``step`` is pure: streams share one program."""

    def step(self, feats: FloatArray, offset: int, state: State) -> EncoderStep:
        """Advance by feats (1, T, F); ``offset`` counts the encoder frames before them."""


@dataclass(frozen=True)
class DecoderScores:
    """Log-probabilities (N, U+1) of the units and eos of each hypothesis, in the order of the
    text, by the left-to-right and the right-to-left decoder; zeros after eos. See
    ``edge_asr.package.manifest.DecoderSpec``."""

    left: FloatArray
    right: FloatArray


class Decoder(Protocol):
    """A loaded decoder program, without state."""

    def score(
        self, hyps: IntArray, hyp_lengths: IntArray, encoder_out: FloatArray
    ) -> DecoderScores:
        """Score hyps (N, U), of which ``hyp_lengths`` (N,) units count, over the encoder_out
        (1, T', D) of their segment. The other units may be any; U is at least 1."""


@dataclass(frozen=True)
class Declared:
    """What a program says of an input or output; None for what it does not say.

    Attributes:
        dtype: as numpy names it; where it has none of the manifest's, any other text.
        sizes: of each axis; of one that varies the largest, or None where it has no bound.
    """

    name: str | None = None
    dtype: str | None = None
    sizes: tuple[int | None, ...] | None = None


class Method(Protocol):
    """A loaded program as its backend runs it. Errors have no common base."""

    @property
    def inputs(self) -> Sequence[Declared]: ...
    @property
    def outputs(self) -> Sequence[Declared] | None:
        """None: they are known only after a run."""

    def run(self, arrays: Arrays) -> Arrays:
        """Outputs for inputs, in the order of what is declared; both belong to the caller."""


class LoadMethod(Protocol):
    """What each backend's module offers under the name ``load_method``; ``threads`` take part, if
    there are so many. BackendError, where the library refuses the program."""

    def __call__(self, program: bytes, threads: int) -> Method: ...


@contextlib.contextmanager
def refusal(
    library: str, what: str = "the program", cure: str = "export the package again"
) -> Iterator[None]:
    """Make a BackendError of any error inside."""
    try:
        yield
    except Exception as error:  # the libraries have no common base for their errors
        raise BackendError(f"{library} refuses {what}: {first_line(error)}; {cure}") from error


def first_line(error: Exception) -> str:
    """What an error says, as far as it fits in a line."""
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else repr(error)


def encoder_of(backend: Backend, method: Method, spec: EncoderSpec) -> Encoder:
    """An encoder that runs ``method``.

    Raises:
        BackendError: its inputs and outputs are not those of ``spec``.
    """
    held = _Held(backend, method, 2 + len(spec.state))
    _check_encoder(held, spec)
    return _MethodEncoder(held)


def decoder_of(backend: Backend, method: Method, spec: DecoderSpec) -> Decoder:
    """A decoder that runs ``method``.

    Raises:
        BackendError: its inputs and outputs are not those of ``spec``.
    """
    held = _Held(backend, method, 2)
    _check_decoder(held, spec)
    return _MethodDecoder(held)


@dataclass(frozen=True)
class _Held:
    """A method held to the manifest: its ``count`` outputs, names, types and sizes."""

    backend: Backend
    method: Method
    count: int

    def run(self, arrays: Arrays) -> Arrays:
        try:
            with library_call():
                outputs = self.method.run(arrays)
            if len(outputs) != self.count:
                raise ValueError(f"it gave no tuple of {self.count} tensors")
        except Exception as error:
            library = self.backend.libraries[0]
            raise BackendError(f"{library} failed in a step: {first_line(error)}") from error
        return outputs

    def check_names(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Compare the names, or how many there are where the program knows no names."""
        given, returned = self.method.inputs, self.method.outputs
        if returned is None:
            if len(given) != len(inputs):
                self.refuse(f"expected {len(inputs)} arguments, found {len(given)}")
        elif any(declared.name is None for declared in (*given, *returned)):
            expected, found = [len(inputs), len(outputs)], [len(given), len(returned)]
            self.compare("numbers of inputs and outputs", expected, found)
        else:
            self.compare("inputs", inputs, [declared.name for declared in given])
            self.compare("outputs", outputs, [declared.name for declared in returned])

    def check_dtypes(self, what: str, expected: Sequence[str], side: Sequence[Declared]) -> None:
        """Compare the types, of which a program says all or none."""
        if any(declared.dtype is not None for declared in side):
            self.compare(what, expected, [declared.dtype for declared in side])

    def check_tensor(
        self, what: str, declared: Declared, sizes: Sequence[int], dtype: str | None = None
    ) -> None:
        """Compare type and sizes; a size without a bound is as good as the expected one."""
        expected, found = list[object](), list[object]()
        if dtype is not None and declared.dtype is not None:
            expected, found = [dtype], [declared.dtype]
        if declared.sizes is not None:
            open_sizes = sizes if len(declared.sizes) == len(sizes) else declared.sizes
            pairs = zip(declared.sizes, open_sizes, strict=True)
            expected += sizes
            found += [other if size is None else size for size, other in pairs]
        self.compare(what, expected, found)

    def compare(self, what: str, expected: Sequence[object], found: Sequence[object]) -> None:
        if list(expected) != list(found):
            self.refuse(f"{what}: expected {list(expected)}, found {list(found)}")

    def refuse(self, difference: str) -> NoReturn:
        raise BackendError(
            f"the {self.backend.title} program does not fit the manifest: {difference}; "
            "export the package again"
        )


def _check_encoder(held: _Held, spec: EncoderSpec) -> None:
    states = [tensor.name for tensor in spec.state]
    held.check_names(
        ["feats", "offset", *states],
        ["encoder_out", "log_probs", *(f"next_{name}" for name in states)],
    )
    for index, tensor in enumerate(spec.state, start=2):
        for side, all_declared in (("input", held.method.inputs), ("output", held.method.outputs)):
            if all_declared is not None:
                declared = all_declared[index]
                what = f"type of {declared.name}" if declared.name else f"{side} {tensor.name}"
                held.check_tensor(what, declared, tensor.shape, tensor.dtype)
    longest = [1, spec.input_frames(spec.max_chunk)]
    held.check_tensor("longest feats", _first_axes(held.method.inputs[0]), longest)


def _check_decoder(held: _Held, spec: DecoderSpec) -> None:
    names, dtypes = ("hyps", "hyp_lengths", "encoder_out"), ("int64", "int64", "float32")
    held.check_names(names, ["left_scores", "right_scores"])
    held.check_dtypes("types of the inputs", dtypes, held.method.inputs)
    largest = ([spec.max_hyps, spec.max_units], [spec.max_hyps], [1, spec.max_frames])
    for name, dtype, sizes, declared in zip(
        names, dtypes, largest, held.method.inputs, strict=True
    ):
        held.check_tensor(f"largest {name}", _first_axes(declared), sizes, dtype)
    scores = held.method.outputs
    if scores is not None:
        held.check_dtypes("types of the outputs", ["float32", "float32"], scores)


def _first_axes(declared: Declared) -> Declared:
    """Without the sizes after the second axis, which are the network's."""
    return replace(declared, sizes=declared.sizes and declared.sizes[:2])


@dataclass(frozen=True)
class _MethodEncoder:
    """See ``Encoder``."""

    held: _Held

    def step(self, feats: FloatArray, offset: int, state: State) -> EncoderStep:
        """See ``Encoder``."""
        outputs = self.held.run((feats, np.array([offset], np.int64), *state))
        encoder_out, log_probs, *next_state = outputs
        return EncoderStep(
            cast(FloatArray, encoder_out), cast(FloatArray, log_probs), tuple(next_state)
        )


@dataclass(frozen=True)
class _MethodDecoder:
    """See ``Decoder``."""

    held: _Held

    def score(
        self, hyps: IntArray, hyp_lengths: IntArray, encoder_out: FloatArray
    ) -> DecoderScores:
        """See ``Decoder``."""
        left, right = self.held.run((hyps, hyp_lengths, encoder_out))
        return DecoderScores(cast(FloatArray, left), cast(FloatArray, right))
