"""What a program is held to, by as much as it says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from edge_asr.backends.program import Arrays, Declared, decoder_of, encoder_of, refusal
from edge_asr.backends.state import zero_state
from edge_asr.backends.table import BACKENDS
from edge_asr.errors import BackendError
from tests.tiny import DECODER, ENCODER

BACKEND = BACKENDS["executorch"]
FEATS = np.zeros((1, 67, 16), np.float32)
HYPS, LENGTHS, MEMORY = np.ones((2, 3), int), np.ones(2, int), np.ones((1, 5, 4), np.float32)
Side = tuple[Declared, ...]
LONGEST = ENCODER.input_frames(ENCODER.max_chunk)
ENCODER_IN: Side = (
    Declared("feats", "float32", (1, LONGEST, 16)),
    Declared("offset", "int64", (1,)),
    Declared("last", "float32", (1, 1, 4)),
)
ENCODER_OUT: Side = (
    Declared("encoder_out", "float32", (1, 64, 4)),
    Declared("log_probs", "float32", (1, 64, 7)),
    Declared("next_last", "float32", (1, 1, 4)),
)
DECODER_IN: Side = (
    Declared("hyps", "int64", (4, 8)),
    Declared("hyp_lengths", "int64", (4,)),
    Declared("encoder_out", "float32", (1, 32, 4)),
)
DECODER_OUT: Side = (Declared("left_scores", "float32"), Declared("right_scores", "float32"))


@dataclass(frozen=True)
class FakeMethod:
    """Gives what it was told to, and keeps nothing."""

    inputs: Side
    outputs: Side | None
    result: Sequence[np.ndarray] = ()

    def run(self, arrays: Arrays) -> Arrays:
        return [*self.result]


def changed(side: Side, index: int, **fields: object) -> Side:
    return tuple(replace(d, **fields) if n == index else d for n, d in enumerate(side))


def without(side: Side, *fields: str) -> Side:
    return tuple(replace(declared, **dict.fromkeys(fields)) for declared in side)


def only_counted(side: Side) -> Side:
    return without(side, "name", "dtype", "sizes")


@pytest.mark.parametrize(
    "forget",
    [(), ("name",), ("dtype",), ("sizes",), ("name", "dtype", "sizes")],
    ids=lambda names: "-".join(names) or "nothing",
)
def test_a_program_need_not_say_everything(forget: tuple[str, ...]) -> None:
    encoder_of(
        BACKEND, FakeMethod(without(ENCODER_IN, *forget), without(ENCODER_OUT, *forget)), ENCODER
    )
    decoder_of(
        BACKEND, FakeMethod(without(DECODER_IN, *forget), without(DECODER_OUT, *forget)), DECODER
    )


def test_a_size_without_a_bound_fits() -> None:
    inputs = changed(ENCODER_IN, 0, sizes=(1, None, 16))
    inputs = changed(inputs, 2, sizes=(None, 1, 4))
    encoder_of(BACKEND, FakeMethod(inputs, ENCODER_OUT), ENCODER)
    inputs = changed(DECODER_IN, 0, sizes=(None, None))
    decoder_of(BACKEND, FakeMethod(inputs, DECODER_OUT), DECODER)


STATE = "expected ['float32', 1, 1, 4], found"


@pytest.mark.parametrize(
    ("inputs", "outputs", "reason"),
    [
        (ENCODER_IN[:2], ENCODER_OUT, "inputs: expected ['feats', 'offset', 'last'], found ["),
        (ENCODER_IN, ENCODER_OUT[::-1], "outputs: expected ['encoder_out', 'log_probs', "),
        (
            only_counted(ENCODER_IN),
            ENCODER_OUT[:2],
            "numbers of inputs and outputs: expected [3, 3], found [3, 2]",
        ),
        (only_counted(ENCODER_IN[:2]), None, "expected 3 arguments, found 2"),
        (
            changed(ENCODER_IN, 2, dtype="int64"),
            ENCODER_OUT,
            f"type of last: {STATE} ['int64', 1, 1, 4]",
        ),
        (
            ENCODER_IN,
            changed(ENCODER_OUT, 2, sizes=(1, 1, 5)),
            f"type of next_last: {STATE} ['float32', 1, 1, 5]",
        ),
        (
            without(changed(ENCODER_IN, 2, sizes=(1, 4)), "name"),
            ENCODER_OUT,
            f"input last: {STATE} ['float32', 1, 4]",
        ),
        (
            without(ENCODER_IN, "name"),
            changed(ENCODER_OUT, 2, name=None, sizes=(None, 4)),
            f"output last: {STATE} ['float32', None, 4]",
        ),
        (
            changed(ENCODER_IN, 0, sizes=(1, LONGEST - 4, 16)),
            ENCODER_OUT,
            f"longest feats: expected [1, {LONGEST}], found [1, {LONGEST - 4}]",
        ),
    ],
)
def test_another_program_is_no_encoder(inputs: Side, outputs: Side | None, reason: str) -> None:
    with pytest.raises(BackendError) as caught:
        encoder_of(BACKEND, FakeMethod(inputs, outputs), ENCODER)
    said = str(caught.value)
    assert said.startswith(f"the ExecuTorch program does not fit the manifest: {reason}")
    assert said.endswith("; export the package again")


@pytest.mark.parametrize(
    ("inputs", "outputs", "reason"),
    [
        (DECODER_IN[::-1], DECODER_OUT, "inputs: "),
        (DECODER_IN, DECODER_OUT[:1], "outputs: "),
        (only_counted(DECODER_IN[:2]), None, "expected 3 arguments, found 2"),
        (changed(DECODER_IN, 1, dtype="int32"), DECODER_OUT, "types of the inputs: expected ["),
        (
            changed(DECODER_IN, 0, sizes=(4, 7)),
            DECODER_OUT,
            "largest hyps: expected ['int64', 4, 8], found ['int64', 4, 7]",
        ),
        (
            changed(DECODER_IN, 1, sizes=(4, 1)),
            DECODER_OUT,
            "largest hyp_lengths: expected ['int64', 4], found ['int64', 4, 1]",
        ),
        (DECODER_IN, changed(DECODER_OUT, 0, dtype="float16"), "types of the outputs: expected ["),
    ],
)
def test_another_program_is_no_decoder(inputs: Side, outputs: Side | None, reason: str) -> None:
    with pytest.raises(BackendError) as caught:
        decoder_of(BACKEND, FakeMethod(inputs, outputs), DECODER)
    assert f" program does not fit the manifest: {reason}" in str(caught.value)


def test_results_are_named_in_their_order() -> None:
    given = [np.full(1, n) for n in range(3)]
    encoder = encoder_of(BACKEND, FakeMethod(ENCODER_IN, ENCODER_OUT, given), ENCODER)
    step = encoder.step(FEATS, 0, zero_state(ENCODER))
    assert (step.encoder_out[0], step.log_probs[0], step.state[0][0]) == (0, 1, 2)
    decoder = decoder_of(BACKEND, FakeMethod(DECODER_IN, DECODER_OUT, given[:2]), DECODER)
    scores = decoder.score(HYPS, LENGTHS, MEMORY)
    assert (scores.left[0], scores.right[0]) == (0, 1)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_of_results_is_our_error(count: int) -> None:
    method = FakeMethod(only_counted(DECODER_IN), None, [np.zeros(1)] * count)
    decoder = decoder_of(BACKEND, method, DECODER)
    with pytest.raises(BackendError) as caught:
        decoder.score(HYPS, LENGTHS, MEMORY)
    assert str(caught.value) == "executorch failed in a step: it gave no tuple of 2 tensors"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("bad\nstack of it"), "bad"),
        (ValueError("x" * 300), "x" * 200),
        (ValueError(), "ValueError()"),
        (ValueError(" \n"), "ValueError(' \\n')"),
    ],
)
def test_a_refusal_is_one_line(error: Exception, reason: str) -> None:
    with pytest.raises(BackendError) as caught, refusal("the library"):
        raise error
    said = f"the library refuses the program: {reason}; export the package again"
    assert str(caught.value) == said
