"""ONNX programs that are changed."""

from __future__ import annotations

import numpy as np

from benchmark.proof.graph import Graph, pick
from tests.benchmark.proof.programs import tiny_encoder


def test_nothing_changed_is_the_same_program() -> None:
    assert Graph(tiny_encoder()).program() == Graph(tiny_encoder()).program()


def test_tensors_and_constants_are_exchanged() -> None:
    graph = Graph(tiny_encoder())
    graph.put("encoder.global_cmvn.mean", np.ones(80, np.float32))
    node, name = graph.numbers(graph.nodes("Div"), lambda value: value.dtype == np.float32)[0]
    graph.put_constant(name, np.full_like(graph.constant(name), 7.0))
    again = Graph(graph.program())
    assert np.all(again.array("encoder.global_cmvn.mean") == 1)
    value = again.constant(name)
    assert value is not None and np.all(value == 7) and name in node.input
    assert again.constant("feats") is None


def test_a_node_that_is_bypassed_has_no_reader() -> None:
    graph = Graph(tiny_encoder())
    norm = graph.nodes("LayerNormalization")[0]
    readers = graph.readers(norm.output[0])
    graph.bypass(norm)
    assert readers and not graph.readers(norm.output[0])
    assert all(norm.input[0] in reader.input for reader in readers)


def test_outputs_of_the_program_keep_their_names() -> None:
    graph = Graph(tiny_encoder())
    node = graph.maker["log_probs"]
    graph.bypass(node)
    assert node.op_type == "Identity" and list(node.output) == ["log_probs"]


def test_one_of_nothing_is_nothing() -> None:
    assert pick([], np.random.default_rng(0)) is None
