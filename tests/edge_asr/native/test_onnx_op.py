"""Our operators inside the installed ONNX Runtime.

Its interface for C is declared by hand in ``onnx_op.cpp``, by places in a table. Each place is used
here: a wrong one crashes or gives another result.
"""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edge_asr.native.library import built, library_path
from tests.edge_asr.native.layers import run_on
from tests.edge_asr.native.weights_file import RELU, Floats, Maker, load, pack_file

pytestmark = pytest.mark.skipif(not built("onnx"), reason="not built; run: make native")
ORT_ERRORS = (
    onnxruntime.capi.onnxruntime_pybind11_state.Fail,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidGraph,
    onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException,
)
DIM = 10
OTHER_KERNELS = """
extern "C" {
int edge_asr_abi() { return 99; }
const char* edge_asr_error() { return ""; }
int edge_asr_operator() { return 0; }
int edge_asr_shapes() { return 0; }
int edge_asr_run() { return 0; }
}
"""


def session(
    operator: str, inputs: int, outputs: int, **attributes: int
) -> onnxruntime.InferenceSession:
    """A graph of one operator, on float32 of any shape."""

    def values(letter: str, count: int) -> list[str]:
        return [f"{letter}{i}" for i in range(count)]

    def infos(names: Sequence[str]) -> list[object]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]

    taken, given = values("x", inputs), values("y", outputs)
    node = helper.make_node(operator, taken, given, "node", domain="edge_asr", **attributes)
    graph = helper.make_graph([node], "one", infos(taken), infos(given))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("edge_asr", 1)]
    model = helper.make_model(graph, ir_version=9, opset_imports=opsets)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(str(library_path("onnx")))
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def run(one: onnxruntime.InferenceSession, *inputs: Floats) -> list[Floats]:
    results: list[Floats] = one.run(None, {f"x{i}": array for i, array in enumerate(inputs)})
    return results


def test_one_input_of_any_rank(kernels: list[str]) -> None:
    maker = Maker(np.random.default_rng(0))
    ffn = maker.feed_forward(DIM, 20, DIM, RELU, 4, 2)[0]
    weights = load(pack_file([maker.linear(DIM, 7)[0], ffn]))
    linear = session("linear", 1, 1, weights=weights.number, layer=0)
    experts = session("moe_ffn", 1, 1, layer=1, weights=weights.number)
    for shape in ((DIM,), (3, DIM), (0, DIM), (1, 2, 1, 3, 1, 1, 2, DIM)):
        x = maker.vector(*shape)
        for layer, one in enumerate((linear, experts)):
            np.testing.assert_array_equal(run(one, x)[0], weights.run(layer, x)[0])


def test_several_inputs_and_outputs(kernels: list[str]) -> None:
    maker = Maker(np.random.default_rng(0))
    attention = maker.attention(DIM, 2, 1)
    convolution = maker.convolution(DIM, 5, False)
    subsampling = maker.subsampling(9, 3, 4)
    weights = load(pack_file([attention, convolution, subsampling]))
    x, hidden = maker.vector(1, 4, DIM), np.array([2], np.float32)
    cache = maker.vector(2, 1, 2, 6, 5)
    inputs = [x, x + 1, hidden, cache, cache * 2, cache[..., 0]]
    calls = [("attention", inputs, 4), ("convolution", [x, maker.vector(1, 1, 4, DIM)], 2)]
    calls.append(("subsampling", [maker.vector(1, 11, 9)], 1))
    for layer, (name, arrays, outputs) in enumerate(calls):
        one = session(name, len(arrays), outputs, weights=weights.number, layer=layer)
        expected = weights.run(layer, *arrays, outputs=outputs)
        for found, wanted in zip(run(one, *arrays), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_what_is_wrong_arrives(kernels: list[str]) -> None:
    maker = Maker(np.random.default_rng(0))
    weights = load(pack_file([maker.linear(DIM, 7)[0]]))
    one = session("linear", 1, 1, weights=weights.number, layer=0)
    with pytest.raises(
        ORT_ERRORS, match=f"edge_asr::linear: rows of {DIM} numbers expected, found 9"
    ):
        run(one, maker.vector(3, 9))
    with pytest.raises(ORT_ERRORS, match="at most 8 dimensions expected"):
        run(one, maker.vector(*(1,) * 8, DIM))
    with pytest.raises(ORT_ERRORS, match="no layer 3, there are 1"):
        run(session("linear", 1, 1, weights=weights.number, layer=3), maker.vector(3, DIM))
    with pytest.raises(ORT_ERRORS, match="1 inputs and 1 outputs expected, found 2 and 2"):
        other = session("convolution", 2, 2, weights=weights.number, layer=0)
        run(other, maker.vector(3, DIM), maker.vector(3, DIM))
    assert run(one, maker.vector(3, DIM))[0].shape == (3, 7)
    number = weights.number
    del weights
    gc.collect()
    with pytest.raises(ORT_ERRORS, match="weights are not loaded"):
        run(one, maker.vector(3, DIM))
    assert number


@pytest.mark.parametrize("missing", ["weights", "layer"])
def test_attributes_that_are_missing(kernels: list[str], missing: str) -> None:
    attributes = {"weights": 1, "layer": 0}
    del attributes[missing]
    with pytest.raises(ORT_ERRORS, match=missing):
        session("linear", 1, 1, **attributes)


def test_other_operators_and_counts_are_refused(kernels: list[str]) -> None:
    with pytest.raises(ORT_ERRORS, match="nothing"):
        session("nothing", 1, 1, weights=1, layer=0)
    with pytest.raises(ORT_ERRORS):
        session("linear", 2, 1, weights=1, layer=0)


def test_sessions_come_and_go(kernels: list[str]) -> None:
    maker = Maker(np.random.default_rng(0))
    weights, x = load(pack_file([maker.linear(DIM, 7)[0]])), maker.vector(2, DIM)
    (expected,) = run_on(kernels[0], weights, [x], 1)
    for _ in range(20):
        sessions = [session("linear", 1, 1, weights=weights.number, layer=0) for _ in range(2)]
        for one in sessions:
            np.testing.assert_array_equal(run(one, x)[0], expected)


@pytest.mark.slow
def test_kernels_of_another_build_are_refused(tmp_path: Path) -> None:
    if not (compiler := shutil.which("g++")):
        pytest.skip("no g++ to build other kernels with")
    name = library_path("kernels").name
    build = [compiler, "-x", "c++", "-", "-shared", "-fPIC", f"-Wl,-soname,{name}"]
    subprocess.run([*build, "-o", str(tmp_path / name)], input=OTHER_KERNELS, text=True, check=True)
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, onnxruntime\n"
            "onnxruntime.SessionOptions().register_custom_ops_library(sys.argv[1])",
            str(library_path("onnx")),
        ],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "the native kernels are of another build than the operators" in result.stderr
