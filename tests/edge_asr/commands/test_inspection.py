"""What a package says about itself."""

from __future__ import annotations

import dataclasses
import json

import msgspec
import pytest

from edge_asr.__main__ import main
from edge_asr.backends.state import zero_state
from edge_asr.commands.inspection import as_table, inspect_package, latency, state_bytes
from edge_asr.package.files import Package
from edge_asr.package.manifest import TensorSpec
from edge_asr.streams.stream import Stream
from tests.tiny import ENCODER, MANIFEST, UNITS, FakeEncoder, sealed, tones


def test_json_has_what_the_manifest_has(
    tiny_package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(tiny_package.root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads(json.dumps(inspect_package(tiny_package)))
    (program,) = found["programs"]
    size = (tiny_package.root / program["file"]).stat().st_size
    assert program["bytes"] == size
    assert program["parity"]["golden_max_abs"] > 0
    files = [path for path in tiny_package.root.iterdir() if path.name != "manifest.json"]
    assert found["other_files_bytes"] + size == sum(path.stat().st_size for path in files)
    assert [row["chunk_ms"] for row in found["latency"]] == [40, 160, 320, 640, 1280, 2560]


def test_the_table_says_it_too(tiny_package: Package, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tiny_package.root)]) == 0
    table = capsys.readouterr().out
    for text in ("CC0-1.0", "onnx fp32", "golden_max_abs 0.001", "0.016 KB per stream"):
        assert text in table


@pytest.mark.parametrize(
    ("fresh", "words"), [(True, "starts from zeros"), (False, "goes on with its context")]
)
def test_what_is_done_after_silence(tiny_package: Package, fresh: bool, words: str) -> None:
    manifest = msgspec.structs.replace(tiny_package.manifest, fresh_context=fresh)
    facts = inspect_package(dataclasses.replace(tiny_package, manifest=manifest))
    assert facts["fresh_context"] is fresh
    (row,) = [r for r in as_table(facts).splitlines() if r.startswith("after silence")]
    assert row.endswith(words)


def test_a_backend_not_known_here_is_said(
    tiny_package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny_package.root / "manifest.json"
    fields = json.loads(path.read_text())
    fields["programs"][0]["backend"] = "from-2030"
    path.write_bytes(sealed(fields))
    assert main(["inspect", str(tiny_package.root)]) == 0
    (row,) = [r for r in capsys.readouterr().out.splitlines() if r.startswith("encoder.fp32")]
    assert "from-2030 fp32" in row
    assert row.endswith(", backend not known to this edge_asr")


def test_a_hostile_manifest_moves_no_cursor(tiny_package: Package) -> None:
    facts = inspect_package(tiny_package)
    facts["license"] = "free\x1b[2J\nfree"
    table = as_table(facts)
    assert "\x1b" not in table
    assert "free[2J free" in table


def test_state_is_what_a_stream_holds() -> None:
    spec = msgspec.structs.replace(
        ENCODER,
        state=(
            TensorSpec(name="a", shape=(1, 3, 5)),
            TensorSpec(name="b", shape=(7,), dtype="int64"),
        ),
    )
    assert state_bytes(spec) == sum(array.nbytes for array in zero_state(spec))


@pytest.mark.parametrize("chunk_frames", [1, 4, 16])
def test_the_longest_wait_is_what_a_stream_waits(chunk_frames: int) -> None:
    encoder = FakeEncoder(ENCODER)
    stream = Stream(encoder, MANIFEST, UNITS, chunk_frames)
    wait_samples = round(latency(MANIFEST, chunk_frames)["longest_wait_ms"] * 16)
    samples = tones("▁one 5000")
    stream.push(samples[: wait_samples - 1])
    assert encoder.offsets == []
    stream.push(samples[wait_samples - 1 : wait_samples])
    assert encoder.offsets == [0]
