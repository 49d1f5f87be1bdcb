"""Refuse an ONNX model that would reach outside its own bytes, before a library parses it.

Walks the protobuf wire format, and of it only the few fields that lead to tensors and operator
domains. Tensors with external data would be read from files that no checksum covers, or from
memory addresses; operators of other domains are code that the package did not bring.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from edge_asr.errors import BackendError

ALLOWED_DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
OUR_DOMAIN = "edge_asr"  # allowed where its operators are registered
_MAX_DEPTH = 32
_DATA_IS_EXTERNAL, _IS_DOMAIN, _IS_REFUSED = "external", "domain", "refused"

# message -> {field number: message inside it, or what the field means to us}; see onnx.proto
_FIELDS: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 8: "OperatorSet", 20: _IS_REFUSED, 25: "Function"},
    "OperatorSet": {1: _IS_DOMAIN},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 9: "OperatorSet", 10: _IS_DOMAIN, 11: "Attribute"},
    "Node": {5: "Attribute", 7: _IS_DOMAIN},
    "Attribute": {
        5: "Tensor",
        6: "Graph",
        10: "Tensor",
        11: "Graph",
        22: "SparseTensor",
        23: "SparseTensor",
    },
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: _DATA_IS_EXTERNAL, 14: _DATA_IS_EXTERNAL},
}


def check_onnx(program: bytes, domains: Set[str] = ALLOWED_DOMAINS) -> None:
    """Raise BackendError if ``program`` is no ONNX model, or one that reaches outside itself or
    uses operators that are not of ``domains``."""
    try:
        _check(memoryview(program), "Model", domains, 0)
    except (IndexError, UnicodeDecodeError) as error:
        raise BackendError("the program is not an ONNX model; export the package again") from error


def _check(message: memoryview, kind: str, domains: Set[str], depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise BackendError("the ONNX model is nested too deeply; export the package again")
    for number, value in _fields(message):
        meaning = _FIELDS[kind].get(number)
        if meaning in _FIELDS and isinstance(value, memoryview):
            _check(value, meaning, domains, depth + 1)
        elif meaning == _IS_DOMAIN and isinstance(value, memoryview):
            domain = bytes(value).decode()
            if domain not in domains:
                raise BackendError(
                    f"the ONNX model uses operators of {domain!r}; allowed are those of ai.onnx "
                    "and com.microsoft: export the package without them"
                )
        elif meaning == _DATA_IS_EXTERNAL and value != 0:  # 0: inside the tensor
            raise BackendError(
                "the ONNX model keeps tensors in other files; export the package in one file"
            )
        elif meaning == _IS_REFUSED:
            raise BackendError("the ONNX model is for training; export the package again")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """(field number, value) of a protobuf message; IndexError where it is malformed."""
    position, end = 0, len(message)
    while position < end:
        key, position = _varint(message, position)
        number, wire_type = key >> 3, key & 7
        if not 1 <= number < 1 << 29:  # other readers drop the high bits: another field to them
            raise IndexError(f"field {number}")
        value: memoryview | int
        if wire_type == 0:
            value, position = _varint(message, position)
        else:
            if wire_type == 2:
                size, position = _varint(message, position)
            elif wire_type in (1, 5):
                size = 8 if wire_type == 1 else 4
            else:
                raise IndexError(f"wire type {wire_type}")
            if position + size > end:
                raise IndexError("cut off")
            value, position = message[position : position + size], position + size
        yield number, value


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise IndexError("number too long")
