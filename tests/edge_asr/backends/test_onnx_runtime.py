"""The ONNX backend holds a program to the manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_asr.backends import Encoder, onnx_runtime, open_decoder, open_encoder, register_operators
from edge_asr.backends.state import zero_state
from edge_asr.errors import BackendError
from edge_asr.package.manifest import EncoderSpec, TensorSpec
from tests.tiny import DECODER, ENCODER, tiny_onnx

FEATS = np.random.default_rng(0).standard_normal((1, 67, 16)).astype(np.float32)


def refused(program: bytes, spec: EncoderSpec = ENCODER) -> str:
    with pytest.raises(BackendError) as caught:
        open_encoder("onnx", program, spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def encoder() -> Encoder:
    return open_encoder("onnx", tiny_onnx(), ENCODER)


def test_a_step_is_pure(encoder: Encoder) -> None:
    state = zero_state(ENCODER)
    first = encoder.step(FEATS, 0, state)
    second = encoder.step(FEATS, 16, first.state)
    assert not state[0].any() and first.state[0].any()
    again = encoder.step(FEATS, 0, state)
    np.testing.assert_array_equal(again.log_probs, first.log_probs)
    assert not np.array_equal(second.log_probs, first.log_probs)
    assert first.log_probs.shape == (1, 16, 7)


def test_chunks_equal_the_whole(encoder: Encoder) -> None:
    whole = encoder.step(FEATS, 0, zero_state(ENCODER)).log_probs
    state, parts = zero_state(ENCODER), []
    for offset in range(0, 16, 4):
        feats = FEATS[:, 4 * offset : 4 * offset + ENCODER.input_frames(4)]
        step = encoder.step(feats, offset, state)
        parts.append(step.log_probs)
        state = step.state
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-5)


def spec(**changes: object) -> EncoderSpec:
    return msgspec.structs.replace(ENCODER, **changes)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (spec(state=()), "inputs"),
        (spec(state=(TensorSpec(name="other", shape=(1, 1, 4)),)), "inputs"),
        (spec(state=(TensorSpec(name="last", shape=(1, 1, 5)),)), "type of last"),
        (spec(state=(TensorSpec(name="last", shape=(1, 4)),)), "type of last"),
        (spec(state=(TensorSpec(name="last", shape=(1, 1, 4), dtype="int64"),)), "type of last"),
        (spec(state=(*ENCODER.state, TensorSpec(name="more", shape=(1,)))), "inputs"),
    ],
)
def test_a_state_that_does_not_fit(wrong: EncoderSpec, what: str) -> None:
    assert f"does not fit the manifest: {what}" in refused(tiny_onnx(), wrong)


def swapped(model: onnx.ModelProto) -> None:
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend([outputs[1], outputs[0], outputs[2]])


def fewer(model: onnx.ModelProto) -> None:
    del model.graph.output[2]


def unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Quux"


@pytest.mark.parametrize("change", [swapped, fewer, unknown_operator])
def test_another_program_is_refused(change: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load_from_string(tiny_onnx())
    change(model)
    refused(model.SerializeToString())


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_program_is_refused(share: float) -> None:
    program = tiny_onnx()
    refused(program[: int(len(program) * share)])


def test_a_step_that_fails_is_our_error(encoder: Encoder) -> None:
    with pytest.raises(BackendError, match="failed in a step") as caught:
        encoder.step(FEATS[:, :, :5], 0, zero_state(ENCODER))
    assert "\n" not in str(caught.value)


def decoder_onnx(
    names: tuple[str, ...] = ("hyps", "hyp_lengths", "encoder_out", "left_scores", "right_scores"),
    lengths: int = TensorProto.INT64,
) -> bytes:
    """Scores that depend on all inputs, none of which is right: (N, U) and not (N, U+1)."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [names[0]], ["units"], to=TensorProto.FLOAT),
            helper.make_node("Cast", [names[1]], ["row"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["row", "one"], ["column"]),
            helper.make_node("ReduceSum", [names[2]], ["sum"], keepdims=0),
            helper.make_node("Add", ["units", "sum"], [names[3]]),
            helper.make_node("Add", [names[3], "column"], [names[4]]),
        ],
        "decoder",
        [
            value(names[0], TensorProto.INT64, ["N", "U"]),
            value(names[1], lengths, ["N"]),
            value(names[2], TensorProto.FLOAT, [1, "T", 4]),
        ],
        [value(name, TensorProto.FLOAT, ["N", "V"]) for name in names[3:]],
        [onnx.numpy_helper.from_array(np.array([1]), "one")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def test_a_decoder_scores() -> None:
    decoder = open_decoder("onnx", decoder_onnx(), DECODER)
    hyps, lengths = np.arange(6).reshape(2, 3), np.array([3, 1])
    memory = np.ones((1, 5, 4), np.float32)
    scores = decoder.score(hyps, lengths, memory)
    np.testing.assert_array_equal(scores.left, hyps + 20)
    np.testing.assert_array_equal(scores.right - scores.left, lengths[:, None].repeat(3, 1))
    with pytest.raises(BackendError, match="failed in a step"):
        decoder.score(hyps, lengths, memory[:, :, 1:])


@pytest.mark.parametrize(
    ("program", "what"),
    [
        (tiny_onnx(), "inputs: "),
        (decoder_onnx(("hyps", "hyp_lengths", "memory", "left_scores", "right_scores")), "inputs"),
        (decoder_onnx(("hyps", "hyp_lengths", "encoder_out", "a", "b")), "outputs"),
        (decoder_onnx(lengths=TensorProto.INT32), "types of the inputs"),
    ],
    ids=["encoder", "input", "output", "type"],
)
def test_another_program_is_no_decoder(program: bytes, what: str) -> None:
    with pytest.raises(BackendError, match=f"does not fit the manifest: {what}"):
        open_decoder("onnx", program, DECODER)


def test_operators_that_cannot_be_opened_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_runtime, "_operators", set())
    broken = tmp_path / "libedge_asr_onnx.so"
    broken.write_bytes(b"no library")
    with pytest.raises(BackendError, match=r"refuses libedge_asr_onnx\.so: .*; run: make native"):
        register_operators("onnx", broken)
    open_encoder("onnx", tiny_onnx(), ENCODER)
