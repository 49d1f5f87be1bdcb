"""ONNX models that reach outside their bytes are refused before a library parses them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_asr.backends.onnx_guard import check_onnx
from edge_asr.errors import BackendError
from tests.tiny import tiny_onnx

GOOD = tiny_onnx()


def refused(program: bytes) -> str:
    with pytest.raises(BackendError) as caught:
        check_onnx(program)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def tensor() -> TensorProto:
    return numpy_helper.from_array(np.zeros(4, np.float32), "t")


def outside() -> TensorProto:
    """A tensor whose data is in another file."""
    external = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[4])
    external.data_location = TensorProto.EXTERNAL
    external.external_data.add(key="location", value="../../etc/passwd")
    return external


def without_location() -> TensorProto:
    external = outside()
    external.ClearField("data_location")
    return external


def without_entries() -> TensorProto:
    external = outside()
    del external.external_data[:]
    return external


def as_initializer(tensor: TensorProto) -> onnx.ModelProto:
    return helper.make_model(helper.make_graph([], "g", [], [], [tensor]))


def as_constant(tensor: TensorProto) -> onnx.ModelProto:
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    return helper.make_model(helper.make_graph([node], "g", [], []))


def as_tensor_list(tensor: TensorProto) -> onnx.ModelProto:
    node = helper.make_node("Any", [], ["c"], values=[tensor])
    return helper.make_model(helper.make_graph([node], "g", [], []))


def in_a_branch(tensor: TensorProto) -> onnx.ModelProto:
    branch = helper.make_graph([], "branch", [], [], [tensor])
    node = helper.make_node("If", ["c"], ["o"], then_branch=branch)
    return helper.make_model(helper.make_graph([node], "g", [], []))


def in_branches(tensor: TensorProto) -> onnx.ModelProto:
    branch = helper.make_graph([], "branch", [], [], [tensor])
    node = helper.make_node("Many", ["c"], ["o"], branches=[branch])
    return helper.make_model(helper.make_graph([node], "g", [], []))


def as_sparse(tensor: TensorProto) -> onnx.ModelProto:
    model = as_initializer(numpy_helper.from_array(np.zeros(1), "x"))
    model.graph.sparse_initializer.add().indices.CopyFrom(tensor)
    return model


def as_sparse_constant(tensor: TensorProto) -> onnx.ModelProto:
    model = as_constant(numpy_helper.from_array(np.zeros(1), "x"))
    model.graph.node[0].attribute.add(name="s").sparse_tensor.values.CopyFrom(tensor)
    return model


def in_a_function(tensor: TensorProto) -> onnx.ModelProto:
    model = as_constant(numpy_helper.from_array(np.zeros(1), "x"))
    model.functions.add(name="f").node.add().attribute.add(name="v").t.CopyFrom(tensor)
    return model


def as_a_default(tensor: TensorProto) -> onnx.ModelProto:
    model = as_constant(numpy_helper.from_array(np.zeros(1), "x"))
    model.functions.add(name="f").attribute_proto.add(name="v").t.CopyFrom(tensor)
    return model


PLACES = [
    as_initializer,
    as_constant,
    as_tensor_list,
    in_a_branch,
    in_branches,
    as_sparse,
    as_sparse_constant,
    in_a_function,
    as_a_default,
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("make", [outside, without_location, without_entries])
def test_data_in_other_files_is_refused_wherever_a_tensor_can_be(
    place: Callable[[TensorProto], onnx.ModelProto], make: Callable[[], TensorProto]
) -> None:
    assert "other files" in refused(place(make()).SerializeToString())
    check_onnx(place(tensor()).SerializeToString())


def foreign_import(model: onnx.ModelProto) -> None:
    model.opset_import.add(domain="evil", version=1)


def foreign_node(model: onnx.ModelProto) -> None:
    model.graph.node[3].domain = "evil"


def foreign_function(model: onnx.ModelProto) -> None:
    model.functions.add(name="f", domain="evil")


def foreign_node_in_a_function(model: onnx.ModelProto) -> None:
    model.functions.add(name="f").node.add().domain = "evil"


def foreign_import_in_a_function(model: onnx.ModelProto) -> None:
    model.functions.add(name="f").opset_import.add(domain="evil", version=1)


def foreign_node_in_a_branch(model: onnx.ModelProto) -> None:
    branch = helper.make_graph([helper.make_node("Op", [], [], domain="evil")], "b", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["o"], else_branch=branch))


@pytest.mark.parametrize(
    "change",
    [
        foreign_import,
        foreign_node,
        foreign_function,
        foreign_node_in_a_function,
        foreign_import_in_a_function,
        foreign_node_in_a_branch,
    ],
)
def test_foreign_operators_are_refused(change: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load_from_string(GOOD)
    change(model)
    assert "'evil'" in refused(model.SerializeToString())


def test_training_is_refused() -> None:
    model = onnx.load_from_string(GOOD)
    model.training_info.add().initialization.name = "t"
    assert "training" in refused(model.SerializeToString())


def test_good_models_pass() -> None:
    check_onnx(GOOD)
    model = onnx.load_from_string(GOOD)
    model.opset_import.add(domain="com.microsoft", version=1)
    check_onnx(model.SerializeToString())


def varint(value: int) -> bytes:
    more = value >> 7
    return bytes([value & 0x7F | (0x80 if more else 0)]) + (varint(more) if more else b"")


def message(number: int, content: bytes, high_bits: int = 0) -> bytes:
    """A field of a protobuf message; ``high_bits`` of its key, which some readers drop."""
    return varint(high_bits << 32 | number << 3 | 2) + varint(len(content)) + content


def test_a_key_that_two_readers_read_differently_is_refused() -> None:
    entry = message(1, b"location") + message(2, b"/etc/passwd")
    tensor = message(13, entry, high_bits=1)
    refused(message(7, message(5, tensor)))
    refused(message(7, message(5, message(13, entry)), high_bits=1))
    refused(message(0, b""))


def test_deep_nesting_is_refused() -> None:
    branch = b""
    for _ in range(5000):
        branch = message(1, message(5, message(6, branch)))
    assert "too deeply" in refused(message(7, branch))


@pytest.mark.parametrize(
    "program",
    [b"\xff", b"\xff" * 100, b"\x3a\xff\xff\xff\xff\x0f", b"\x3b\x3c", b"ORTM" * 10, b"\x80" * 20],
)
def test_what_is_no_message_is_refused(program: bytes) -> None:
    assert "not an ONNX model" in refused(program)


@settings(max_examples=150, deadline=None)
@given(start=st.integers(0, len(GOOD) - 1), put=st.binary(max_size=12), cut=st.booleans())
def test_damage_ends_in_our_error_or_none(start: int, put: bytes, cut: bool) -> None:
    end = b"" if cut else GOOD[start + len(put) :]
    try:
        check_onnx(GOOD[:start] + put + end)
    except BackendError as error:
        assert "\n" not in str(error)
