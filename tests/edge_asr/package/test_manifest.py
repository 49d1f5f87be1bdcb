"""The manifest is read strictly."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from edge_asr.errors import PackageError
from edge_asr.package.manifest import (
    EncoderSpec,
    FileEntry,
    HideSpec,
    Program,
    decode_manifest,
    encode_manifest,
)
from edge_asr.package.seal import seal
from tests.tiny import DECODER, ENCODER, MANIFEST, sealed

SHA = "0" * 64
PROGRAM = Program(
    role="encoder", backend="onnx", precision="int8", file="a.onnx", bytes=1, sha256=SHA
)
HIDE = {"axis": 2, "value": -1e9}
INTEGERS = {"name": "last", "shape": [1], "dtype": "int64", "hide": HIDE | {"axis": 0}}


def tree() -> dict[str, Any]:
    """A good manifest, to spoil."""
    found: dict[str, Any] = json.loads(encode_manifest(MANIFEST))
    del found["digest"]
    for key, record in (
        ("programs", PROGRAM),
        ("files", FileEntry(file="units.txt", bytes=1, sha256=SHA)),
    ):
        found[key] = [{name: getattr(record, name) for name in record.__struct_fields__}]
    found["programs"][0] |= {"native_ops": ["edge_asr::moe_ffn"], "weights": "units.txt"}
    found["decoder"] = msgspec.to_builtins(DECODER)
    return found


def test_what_is_written_is_read() -> None:
    assert decode_manifest(encode_manifest(MANIFEST), "m") == MANIFEST
    assert decode_manifest(sealed(tree()), "m").decoder == DECODER


def test_a_package_may_have_no_decoder() -> None:
    """As every package before decoders were exported."""
    found = tree()
    del found["decoder"]
    assert decode_manifest(sealed(found), "m").decoder is None


def test_a_package_may_not_say_what_is_done_after_silence() -> None:
    """As every package before this was told: the encoder starts from zeros."""
    found = tree()
    del found["fresh_context"]
    assert decode_manifest(sealed(found), "m").fresh_context
    going_on = msgspec.structs.replace(MANIFEST, fresh_context=False)
    assert decode_manifest(encode_manifest(going_on), "m") == going_on


def test_a_program_may_not_say_its_group() -> None:
    """As in every package before this was told; the group is that of int4 weights."""
    found = tree()
    del found["programs"][0]["group"]
    without = decode_manifest(sealed(found), "m")
    assert without.programs[0].group is None
    found["programs"][0] |= {"precision": "int4", "group": 64}
    assert decode_manifest(sealed(found), "m").programs[0].group == 64


def test_a_state_may_not_say_how_to_hide_frames() -> None:
    """As in every package before this was known."""
    found = tree()
    del found["encoder"]["state"][0]["hide"]
    assert decode_manifest(sealed(found), "m").encoder.state[0].hide is None
    found["encoder"]["state"][0]["hide"] = HIDE | {"axis": 0}
    (state,) = decode_manifest(sealed(found), "m").encoder.state
    assert state.shape[0] == ENCODER.left_context and state.hide == HideSpec(axis=0, value=-1e9)


def test_a_program_may_be_for_a_backend_and_of_a_precision_that_came_later() -> None:
    found = tree()
    found["programs"][0] |= {"backend": "from_2030-b", "precision": "int2"}
    (program,) = decode_manifest(sealed(found), "m").programs
    assert (program.backend, program.precision) == ("from_2030-b", "int2")


def put(*path: str | int, value: object) -> Callable[[dict[str, Any]], None]:
    def change(found: Any) -> None:
        for key in path[:-1]:
            found = found[key]
        found[path[-1]] = value

    return change


def drop(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda found: found.pop(key)


def list_again(key: str, file: str) -> Callable[[dict[str, Any]], None]:
    return lambda found: found[key].append(found[key][0] | {"file": file, "precision": "fp32"})


def decoder_without_interface(found: Any) -> None:
    found["decoder"] = None
    found["programs"].append(found["programs"][0] | {"file": "d.onnx", "role": "decoder"})


BAD = {
    "another version": put("schema_version", value=1),
    "no version": drop("schema_version"),
    "version as text": put("schema_version", value="2"),
    "long version": put("schema_version", value="1" * 5000),
    "unknown key": put("colour", value="red"),
    "unknown key with escapes": put("a\nb\x1b[31m\u202e", value=1),
    "unknown key inside": put("encoder", "layers", value=12),
    "long key": put("x" * 100_000, value=1),
    "missing key": drop("encoder"),
    "wrong type": put("encoder", "default_chunk", value="16"),
    "number as float": put("encoder", "default_chunk", value=16.5),
    "bool as number": put("encoder", "default_chunk", value=True),
    "null": put("encoder", "default_chunk", value=None),
    "zero chunk": put("encoder", "min_chunk", value=0),
    "huge number": put("encoder", "default_chunk", value=10**400),
    "chunks out of order": put("encoder", "default_chunk", value=65),
    "frames that no step reads": put("encoder", "right_context", value=2),
    "two states of one name": lambda found: found["encoder"]["state"].append(
        found["encoder"]["state"][0]
    ),
    "huge state": put("encoder", "state", 0, "shape", value=[1 << 20, 1 << 20]),
    "state of size 0": put("encoder", "state", 0, "shape", value=[0]),
    "state name": put("encoder", "state", 0, "name", value="a\n"),
    "axis to hide along is not there": put("encoder", "state", 0, "hide", value=HIDE | {"axis": 3}),
    "axis to hide along is of another size": put("encoder", "state", 0, "hide", value=HIDE),
    "negative axis": put("encoder", "state", 0, "hide", value=HIDE | {"axis": -1}),
    "hides with infinity": put("encoder", "state", 0, "hide", value=HIDE | {"value": -1e39}),
    "hides with text": put("encoder", "state", 0, "hide", value=HIDE | {"value": "-1"}),
    "hides in some way": put("encoder", "state", 0, "hide", value=HIDE | {"how": "so"}),
    "hides in integers": put("encoder", "state", 0, value=INTEGERS),
    "unknown dtype": put("encoder", "state", 0, "dtype", value="float16"),
    "blank outside": put("units", "blank", value=7),
    "sample rate": put("features", "sample_rate", value=1),
    "audio between frames": put("features", "frame_shift_ms", value=30),
    "low over high": put("features", "low_freq_hz", value=9000),
    "high over Nyquist": put("features", "high_freq_hz", value=9000),
    "high below low": put("features", "high_freq_hz", value=-7999),
    "another window": put("features", "window", value="hann"),
    "backend in capitals": put("programs", 0, "backend", value="ONNX"),
    "no backend": put("programs", 0, "backend", value=""),
    "long backend": put("programs", 0, "backend", value="x" * 33),
    "backend with line break": put("programs", 0, "backend", value="onnx\n"),
    "unknown role": put("programs", 0, "role", value="joiner"),
    "precision with escape": put("programs", 0, "precision", value="int8\x1b"),
    "operator name": put("programs", 0, "native_ops", value=["a\nb"]),
    "native_ops without weights": put("programs", 0, "weights", value=None),
    "weights not listed": put("programs", 0, "weights", value="other"),
    "group without int4": put("programs", 0, "group", value=32),
    "group of nothing": lambda found: found["programs"][0].update(precision="int4", group=0),
    "negative size": put("programs", 0, "bytes", value=-1),
    "huge size": put("programs", 0, "bytes", value=1 << 35),
    "short hash": put("programs", 0, "sha256", value="0" * 63),
    "hash in capitals": put("programs", 0, "sha256", value="A" * 64),
    "hash with line break": put("programs", 0, "sha256", value="0" * 64 + "\n"),
    "file outside": put("programs", 0, "file", value="../a.onnx"),
    "absolute file": put("programs", 0, "file", value="/a.onnx"),
    "file in a folder": put("programs", 0, "file", value="a/b.onnx"),
    "backslash": put("programs", 0, "file", value="a\\b.onnx"),
    "empty file name": put("programs", 0, "file", value=""),
    "the folder itself": put("programs", 0, "file", value="."),
    "the folder above": put("files", 0, "file", value=".."),
    "the manifest itself": put("files", 0, "file", value="manifest.json"),
    "one name for two": put("files", 0, "file", value="a.onnx"),
    "names that differ in case": put("files", 0, "file", value="A.ONNX"),
    "one file for two programs": list_again("programs", "a.onnx"),
    "two programs of one kind": lambda found: found["programs"].append(
        found["programs"][0] | {"file": "b.onnx"}
    ),
    "decoder of other kind": put("decoder", "layers", value=3),
    "reverse weight over 1": put("decoder", "reverse_weight", value=1.5),
    "negative CTC weight": put("decoder", "ctc_weight", value=-0.1),
    "no hypothesis": put("decoder", "max_hyps", value=0),
    "weight of a missing decoder": put("decoder", "bidirectional", value=False),
    "decoder program without interface": decoder_without_interface,
    "metric as text": put("metrics", value={"wer": "low"}),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_manifest_is_refused_in_one_line(kind: str) -> None:
    found = tree()
    BAD[kind](found)
    refused(sealed(found))


def refused(text: bytes) -> None:
    with pytest.raises(PackageError) as caught:
        decode_manifest(text, "manifest.json")
    message = str(caught.value)
    assert message.startswith("manifest.json: ") and message.isprintable()
    assert "export the package again" in message
    assert len(message) < 500
    assert caught.value.exit_code == 78


GOOD = json.dumps(tree()).encode()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b"null",
        b"[1]",
        b"{}",
        GOOD[:-1],
        GOOD + b"x",
        GOOD.replace(b'"en"', b'"\xff"'),
        GOOD.replace(b'"en"', b'"\\ud800"'),
        GOOD.replace(b'"en"', b"NaN"),
        GOOD.replace(b'"en"', b"1e999"),
        GOOD.replace(b'"en"', b"9" * 6000),
        GOOD.replace(b'"en"', b"[" * 100_000),
        GOOD.replace(b'"schema_version": 2', b'"schema_version": ' + b"9" * 6000),
        GOOD.replace(b'"schema_version": 2', b'"schema_version": {"a": "\\u001b"}'),
    ],
    ids=range(15),
)
def test_bad_json_is_refused_in_one_line(text: bytes) -> None:
    refused(seal(text))
    refused(text)


def test_a_manifest_without_a_digest_is_refused() -> None:
    with pytest.raises(PackageError, match="m: has no digest in its first line; copy or export"):
        decode_manifest(GOOD, "m")


def test_an_older_manifest_without_a_digest_is_refused_as_older() -> None:
    with pytest.raises(PackageError, match="schema_version is 1, this edge_asr reads 2"):
        decode_manifest(json.dumps(tree() | {"schema_version": 1}).encode(), "m")


def test_a_chunk_reads_its_frames_and_the_context() -> None:
    assert isinstance(ENCODER, EncoderSpec)
    assert [ENCODER.input_frames(chunk) for chunk in (1, 2, 16)] == [7, 11, 67]
    assert [ENCODER.output_frames(frames) for frames in (7, 10, 11, 67)] == [1, 1, 2, 16]
