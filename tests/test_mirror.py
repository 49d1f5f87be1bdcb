"""Tests mirror the tree: ``tests/ROOM/x/test_y.py`` is about ``ROOM/x/y.py``.

Both lists of exceptions only shrink: an entry that is no longer needed fails its test too.
"""

from __future__ import annotations

from tests.test_architecture import ROOMS, ROOT, sources

# Modules without a test file of their name.
UNTESTED = frozenset(
    """
    benchmark/paper/routing.py
    benchmark/paper/workload.py
    benchmark/search/hotword_report.py
    edge_asr/backends/executorch_binding.py
    edge_asr/backends/executorch_stock_runtime.py
    edge_asr/mic.py
    edge_asr/programs/golden_decoder.py
    edge_asr/search/prefix_beam.py
    export/__main__.py
    export/eager.py
    export/executorch_decoder.py
    export/executorch_layers.py
    export/native.py
    export/roles.py
    export/speech.py
    export/to_executorch.py
    export/to_torchscript.py
    model/accents.py
    model/attention.py
    model/convolution.py
    model/decoder.py
    model/encoder.py
    model/masks.py
    model/synthesis_texts.py
    quant/__main__.py
    quant/convolution.py
    quant/plan.py
    """.split()
)

# Test files without a module of their name, and what they are about.
TESTS_OF_SEVERAL = {
    "tests/edge_asr/audio/test_bad_files.py": "read.py: what is no audio",
    "tests/edge_asr/commands/test_input.py": "mic.py, transcribe.py: pipes, raw, cut files",
    "tests/edge_asr/backends/test_fourth_backend.py": "what a backend of its own takes",
    "tests/edge_asr/native/test_threads.py": "the C++ under several threads",
    "tests/edge_asr/commands/test_mic_device.py": "mic.py at a device",
    "tests/edge_asr/commands/test_mic_terminal.py": "mic.py at a terminal",
    "tests/edge_asr/microphone/test_faults.py": "all of microphone/",
    "tests/edge_asr/microphone/test_pipe.py": "file.py: a pipe",
    "tests/edge_asr/native/test_executorch_binding.py": "src/executorch_binding.cpp",
    "tests/edge_asr/native/test_kernels.py": "the C++ of all instruction sets",
    "tests/edge_asr/native/test_levers.py": "the C++ of the experts, through library.py",
    "tests/edge_asr/native/test_onnx_op.py": "src/onnx_op.cpp",
    "tests/edge_asr/native/test_shortage.py": "the C++ where memory or threads end",
    "tests/edge_asr/native/test_weights.py": "src/weights.cpp",
    "tests/edge_asr/streams/test_stream_changes.py": "stream.py: streams changed while they run",
    "tests/edge_asr/streams/test_stream_input.py": "stream.py: input that it refuses",
    "tests/edge_asr/streams/test_stream_long.py": "stream.py: half an hour",
    "tests/edge_asr/streams/test_stream_steps.py": "stream.py: driven step by step",
    "tests/edge_asr/streams/test_transcribe.py": "recognizer.py: what transcribe takes",
    "tests/export/test_decoder_lowerings.py": "lowerings.py: decoders",
    "tests/export/test_left_context.py": "every lowering",
    "tests/export/test_native_blocks.py": "native.py and src/blocks.cpp",
    "tests/model/test_smoke.py": "training, export and text together",
    "tests/model/test_streaming.py": "every layer of the network",
    "tests/model/test_wenet.py": "network.py beside WeNet's numbers",
}


def modules() -> set[str]:
    """The Python files of the rooms, but for ``__init__.py``."""
    return {
        str(path.relative_to(ROOT))
        for path in sources(*ROOMS)
        if path.suffix == ".py" and path.name != "__init__.py"
    }


def named_after() -> dict[str, str]:
    """Each test file of a room, with the module that it is named after."""
    found = {}
    for path in sources(*(f"tests/{room}" for room in ROOMS)):
        if path.name.startswith("test_"):
            name = path.name.removeprefix("test_")
            name = "__main__.py" if name == "main.py" else name
            module = path.with_name(name).relative_to(ROOT / "tests")
            found[str(path.relative_to(ROOT))] = str(module)
    return found


def test_every_test_is_named_after_its_module() -> None:
    homeless = {test for test, module in named_after().items() if module not in modules()}
    several = set(TESTS_OF_SEVERAL)
    assert homeless - several == set(), "tests/ROOM/x/test_y.py is about ROOM/x/y.py"
    assert several - homeless == set(), "these have their module or are gone; take them off"


def test_every_module_has_a_test() -> None:
    untested = modules() - set(named_after().values())
    assert untested - UNTESTED == set(), "write tests/ROOM/x/test_y.py of ROOM/x/y.py"
    assert UNTESTED - untested == set(), "these have a test now or are gone; take them off"
