"""Our binding of ExecuTorch: no torch, errors instead of crashes, threads, foreign operators."""

from __future__ import annotations

import importlib.util
import os
import shutil
import struct
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edge_asr.backends.executorch_binding import library_folder, open_native, open_operators
from tests.edge_asr.native.programs import (
    MAX_FRAMES,
    FloatArray,
    expected_sums,
    export_sums,
    sums,
    twice,
)

ROOT = Path(__file__).parents[3]
RNG = np.random.default_rng(0)
# A byte that the library's verification lets pass, and a value that then breaks an assertion.
OFFSET, VALUE = 908, 14

TWICE = """
#include <executorch/extension/kernel_util/make_boxed_from_unboxed_functor.h>
#include <executorch/runtime/core/exec_aten/exec_aten.h>
#include <executorch/runtime/kernel/kernel_runtime_context.h>
#include <executorch/runtime/kernel/operator_registry.h>
using executorch::aten::Tensor;
Tensor& twice(executorch::runtime::KernelRuntimeContext&, const Tensor& x, Tensor& out) {
  for (ssize_t i = 0; i < x.numel(); ++i)
    out.mutable_data_ptr<float>()[i] = 2 * x.const_data_ptr<float>()[i];
  return out;
}
EXECUTORCH_LIBRARY(edge_asr_toy, "twice.out", twice);
"""


@pytest.fixture(scope="module")
def native() -> ModuleType:
    if importlib.util.find_spec("edge_asr.native._executorch") is None:
        pytest.skip("not built; run: make native")
    return open_native(library_folder())


def arrays(frames: int = 16) -> tuple[FloatArray, np.ndarray, FloatArray]:
    """Inputs of the program: feats, offset and state of so many encoder frames."""
    feats = RNG.standard_normal((1, 4 * frames + 3, 16)).astype(np.float32)
    return feats, np.array([5]), RNG.standard_normal((1, 1, 4)).astype(np.float32)


def in_new_process(*lines: str) -> str:
    """What a fresh interpreter prints that has ``native`` and ``method``, that of ``sums``."""
    code = [
        "from tests.edge_asr.native.programs import *",
        "from edge_asr.backends.executorch_binding import library_folder, open_native",
        "native = open_native(library_folder())",
        "method = native.Method(sums(), 'forward', 1)",
        "inputs = [np.ones(d.sizes, d.dtype) for d in method.inputs]",
        *lines,
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(code)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("frames", [1, 16, MAX_FRAMES])
def test_a_program_computes_what_it_should(native: ModuleType, frames: int) -> None:
    feats, offset, last = arrays(frames)
    found = native.Method(sums(), "forward", 1).run([feats, offset, last])
    for output, expected in zip(found, expected_sums(feats, 5, last), strict=True):
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)
        assert output.dtype == np.float32


def test_what_a_program_declares_is_known(native: ModuleType) -> None:
    method = native.Method(sums(), "forward", 1)
    longest = 4 * MAX_FRAMES + 3
    assert [(declared.dtype, declared.sizes) for declared in method.inputs] == [
        ("float32", (1, longest, 16)),
        ("int64", (1,)),
        ("float32", (1, 1, 4)),
    ]
    assert [(declared.dtype, declared.sizes) for declared in method.outputs] == [
        ("float32", (1, MAX_FRAMES, 4)),
        ("float32", (1, MAX_FRAMES, 7)),
        ("float32", (1, 1, 4)),
    ]
    # The arenas hold at least the inputs, and nothing like the whole process.
    assert longest * 16 * 4 <= method.planned_bytes < 1_000_000


def test_outputs_belong_to_the_caller_and_inputs_stay(native: ModuleType) -> None:
    method = native.Method(sums(), "forward", 1)
    inputs = arrays()
    before = [array.copy() for array in inputs]
    for array in inputs:
        array.flags.writeable = False
    first = method.run(inputs)
    kept = [output.copy() for output in first]
    method.run(arrays())
    for output, copy in zip(first, kept, strict=True):
        np.testing.assert_array_equal(output, copy)
    for array, copy in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    del method
    first[0][:] = 1  # the memory outlives the program, and may be written


def test_a_view_is_read_as_what_it_shows(native: ModuleType) -> None:
    method = native.Method(sums(), "forward", 1)
    feats, offset, last = arrays()
    wide = np.repeat(feats, 2, axis=2)[:, :, ::2]
    assert not wide.flags.c_contiguous
    for found, expected in zip(
        method.run([wide, offset, last]), method.run([feats, offset, last]), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("damaged", "name"),
    [
        (b"", "InvalidArgument"),
        (b"hello", "InvalidArgument"),
        (bytes(4096), "InvalidProgram"),
        (sums()[:-100], "InvalidProgram"),
        (sums()[:100], "InvalidProgram"),
        (sums()[:100] + bytes(100) + sums()[200:], "InvalidProgram"),
    ],
    ids=["empty", "text", "zeros", "cut", "head", "hole"],
)
def test_a_damaged_program_is_refused(native: ModuleType, damaged: bytes, name: str) -> None:
    with pytest.raises(native.ExecuTorchError, match=f"loading the program: {name}: .+"):
        native.Method(damaged, "forward", 1)


@pytest.mark.parametrize("frames", [1 << 27, 1 << 30, -1])
def test_tensors_that_32_bits_do_not_count_are_refused(native: ModuleType, frames: int) -> None:
    declared = struct.pack("<3i", 1, 4 * MAX_FRAMES + 3, 16)
    assert sums().count(declared) == 1
    program = sums().replace(declared, struct.pack("<3i", 1, frames, 16))
    with pytest.raises(native.ExecuTorchError, match="input 0"):
        native.Method(program, "forward", 1)


def test_damage_that_passes_the_verification_does_not_end_the_process(native: ModuleType) -> None:
    printed = in_new_process(
        f"damaged = sums()[:{OFFSET}] + bytes([{VALUE}]) + sums()[{OFFSET + 1}:]",
        "try: native.Method(damaged, 'forward', 1).run(inputs)",
        "except native.ExecuTorchError as error: print(error)",
        "print(len(method.run(inputs)))",
    ).splitlines()
    assert printed[0].startswith("an assertion failed: InvalidProgram: ")
    assert printed[1:] == ["3"]


def test_a_method_that_is_not_there_is_an_error(native: ModuleType) -> None:
    with pytest.raises(native.ExecuTorchError, match="InvalidArgument: No method named 'step'"):
        native.Method(sums(), "step", 1)


FEATS, POSITION, LAST = arrays()


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ([], "expected 3 inputs, found 0"),
        ([FEATS, POSITION], "expected 3 inputs, found 2"),
        ([FEATS, POSITION, LAST, LAST], "expected 3 inputs, found 4"),
        ([FEATS.astype(np.float64), POSITION, LAST], "input 0 must be float32"),
        ([FEATS, POSITION.astype(np.int32), LAST], "input 1 must be int64"),
        ([FEATS[0], POSITION, LAST], "input 0 must have 3 axes"),
        ([FEATS, POSITION[0:0], LAST], "input 1: NotSupported"),
        ([np.zeros((1, 264, 16), np.float32), POSITION, LAST], "axis 1 must be at most 259"),
        ([FEATS, POSITION, LAST[:, :, :3]], "input 2: NotSupported"),
        ([FEATS[:, :, :15], POSITION, LAST], "running the method: Internal: .*input shapes"),
    ],
)
def test_wrong_inputs_are_errors_and_leave_the_program_usable(
    native: ModuleType, inputs: list[np.ndarray], reason: str
) -> None:
    method = native.Method(sums(), "forward", 1)
    with pytest.raises(native.ExecuTorchError, match=reason) as caught:
        method.run(inputs)
    assert "\n" not in str(caught.value)
    found = method.run([FEATS, POSITION, LAST])
    np.testing.assert_allclose(found[0], expected_sums(FEATS, 5, LAST)[0], rtol=1e-5)


@pytest.mark.parametrize("inputs", [None, 3, [1, 2, 3], ["a"], [None] * 3])
def test_what_is_no_array_is_a_type_error(native: ModuleType, inputs: object) -> None:
    with pytest.raises(TypeError):
        native.Method(sums(), "forward", 1).run(inputs)


def test_threads_share_a_program(native: ModuleType) -> None:
    """Programs with different numbers of threads too: the pool they share is set for each."""
    methods = [native.Method(sums(), "forward", threads) for threads in (1, 2)]
    inputs = [arrays(frames) for frames in (1, 8, 16, 64)]
    expected = [methods[0].run(each) for each in inputs]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(100):
            found = methods[number % 2].run(inputs[number // 2])
            if not all(map(np.array_equal, found, expected[number // 2])):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong


def test_programs_have_as_many_threads_as_there_are(native: ModuleType) -> None:
    methods = [native.Method(sums(), "forward", threads) for threads in (1, 2, 1_000_000)]
    one, two, most = (method.threads for method in methods)
    assert one == 1 and two == min(2, most) and most <= max(os.cpu_count() or 1, 1)
    for method in reversed(methods):
        assert len(method.run(arrays())) == 3
    with pytest.raises(ValueError, match="at least 1"):
        native.Method(sums(), "forward", 0)


def test_everything_is_registered_once(native: ModuleType) -> None:
    operators = native.operators()
    assert "aten::add.out" in operators
    assert len(set(operators)) == len(operators)
    assert native.backends().count("XnnpackBackend") == 1


def test_a_fresh_process_is_small_and_without_torch(native: ModuleType) -> None:
    printed = in_new_process(
        "method.run(inputs)",
        "import sys",
        "print({'torch', 'executorch'} & set(sys.modules))",
        "status = dict(line.split(':', 1) for line in open('/proc/self/status'))",
        "print(*(int(status[key].split()[0]) * 1024 // 1_000_000 for key in ('VmRSS', 'RssAnon')))",
        "import time; start = time.perf_counter()",
        "native.Method(sums(), 'forward', 1).run(inputs)",
        "print(f'{time.perf_counter() - start:.4f}')",
    )
    loaded, memory, seconds = printed.splitlines()
    resident, own = map(int, memory.split())
    print(f"whole process {resident} MB, {own} of its own; loading again and a step {seconds} s")
    assert loaded == "set()"
    # How much of the libraries' files is mapped is up to the system: 51 MB in all on one disk, 66
    # on another. So the bound is for what the process allocates, with room for the files above it.
    assert own < 40 and resident < 100


def test_an_unknown_operator_is_named(native: ModuleType) -> None:
    with pytest.raises(
        native.ExecuTorchError, match=r"OperatorMissing: .*edge_asr_toy::twice\.out"
    ):
        native.Method(twice(), "forward", 1)


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library with the operator of ``twice``, which leaves open where the registry is."""
    if not (compiler := shutil.which("g++")):
        pytest.skip("no g++ to build an operator with")
    folder = tmp_path_factory.mktemp("operator")
    (folder / "twice.cpp").write_text(TWICE)
    include = library_folder().parent / "include"
    headers = (include, include / "executorch/runtime/core/portable_type/c10")
    subprocess.run(
        [
            *(compiler, "-std=c++17", "-fPIC", "-shared", "twice.cpp", "-o", "twice.so"),
            *("-DC10_USING_CUSTOM_GENERATED_MACROS", "-DET_EVENT_TRACER_ENABLED"),
            *(f"-I{header}" for header in headers),
        ],
        check=True,
        cwd=folder,
    )
    return folder / "twice.so"


@pytest.mark.slow
@pytest.mark.parametrize(
    "load",
    [
        "load = lambda program, threads: native.Method(program, 'forward', threads)",
        "from edge_asr.backends.executorch_stock_runtime import load",
    ],
    ids=["ours", "stock"],
)
def test_an_operator_of_another_library_is_found(
    native: ModuleType, operator: Path, load: str
) -> None:
    printed = in_new_process(
        "from edge_asr.backends.executorch_binding import open_operators",
        load,
        f"open_operators(Path({str(operator)!r}))",
        "rows = np.arange(6, dtype=np.float32).reshape(2, 3)",
        "print(load(twice(), 1).run([rows])[0].tolist())",
    )
    assert printed.splitlines()[-1] == "[[0.0, 2.0, 4.0], [6.0, 8.0, 10.0]]"


def test_operators_that_cannot_be_opened_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImportError, match=r"operators\.so cannot be opened"):
        open_operators(tmp_path / "operators.so")


@pytest.mark.slow
def test_both_bindings_live_in_one_process(native: ModuleType) -> None:
    """Each operator and backend is registered once, whichever comes first."""
    printed = in_new_process(
        "from edge_asr.backends.executorch_stock_runtime import load",
        "inputs[0] = inputs[0][:, :67]",
        "outputs = zip(method.run(inputs), load(sums(), 2).run(inputs), method.run(inputs))",
        "print(all(np.array_equal(a, b) and np.array_equal(a, c) for a, b, c in outputs))",
    )
    assert printed.splitlines()[-1] == "True"


@pytest.mark.slow
def test_reasons_are_kept_where_the_other_binding_came_later(native: ModuleType) -> None:
    """It takes the log of the library for itself as it is imported."""
    printed = in_new_process(
        "import edge_asr.backends.executorch_stock_runtime",
        "try: native.Method(b'', 'forward', 1)",
        "except native.ExecuTorchError as error: print(error)",
    )
    assert printed.splitlines()[-1].startswith("loading the program: InvalidArgument: ")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_program_exported_now_computes_the_same(native: ModuleType) -> None:
    inputs = arrays()
    new = native.Method(export_sums(), "forward", 1).run(inputs)
    for found, expected in zip(new, native.Method(sums(), "forward", 1).run(inputs), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
