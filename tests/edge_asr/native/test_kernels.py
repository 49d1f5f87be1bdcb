"""All kernels compute the same bits, whatever the threads and however rows are grouped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.edge_asr.native import layers
from tests.edge_asr.native.layers import SPECIALS, Case, makers, run_on, same
from tests.edge_asr.native.weights_file import Floats, Maker, load, pack_file

ANY_LAYER = st.one_of(
    layers.linear(),
    layers.feed_forward(),
    layers.subsampling(),
    layers.attention(),
    layers.convolution(),
)
ROWS = st.one_of(layers.linear(), layers.feed_forward())
EXAMPLES = settings(max_examples=40, deadline=None)


@EXAMPLES
@given(ANY_LAYER)
def test_every_kernel_gives_the_bits_of_the_portable_one(kernels: list[str], case: Case) -> None:
    weights = load(pack_file([case.layer]))
    expected = run_on("portable", weights, case.inputs, case.outputs)
    for kernel in kernels:
        assert same(run_on(kernel, weights, case.inputs, case.outputs), expected), kernel


@EXAMPLES
@given(ANY_LAYER, st.data())
def test_no_number_is_too_odd(kernels: list[str], case: Case, data: st.DataObject) -> None:
    for array in case.inputs:
        for _ in range(min(4, array.size)):
            place = data.draw(st.integers(0, array.size - 1))
            array.reshape(-1)[place] = data.draw(st.sampled_from(SPECIALS))
    weights = load(pack_file([case.layer]))
    expected = run_on("portable", weights, case.inputs, case.outputs)
    for kernel in kernels:
        assert same(run_on(kernel, weights, case.inputs, case.outputs), expected), kernel


@EXAMPLES
@given(makers(), st.integers(1, 300), st.integers(1, 100), st.integers(1, 40))
def test_linear_layers_compute_what_numpy_does(
    kernels: list[str], maker: Maker, inputs: int, outputs: int, rows: int
) -> None:
    layer, matrix = maker.linear(inputs, outputs)
    weights = load(pack_file([layer]))
    x = maker.vector(rows, inputs) * maker.vector(rows, 1) + maker.vector(rows, 1)
    for kernel in kernels:
        np.testing.assert_array_equal(run_on(kernel, weights, [x], 1)[0], matrix.apply(x), kernel)


@EXAMPLES
@given(ANY_LAYER)
def test_threads_change_nothing(kernels: list[str], case: Case) -> None:
    weights = load(pack_file([case.layer]))
    expected = run_on(kernels[0], weights, case.inputs, case.outputs)
    for threads in (2, 3):
        found = run_on(kernels[0], weights, case.inputs, case.outputs, threads)
        assert same(found, expected), threads


@pytest.mark.slow
@EXAMPLES
@given(ROWS, st.data())
def test_a_row_depends_on_itself_alone(kernels: list[str], case: Case, data: st.DataObject) -> None:
    """In other orders and groups, and beside rows that overflow."""
    (x,) = case.inputs
    weights = load(pack_file([case.layer]))
    order = data.draw(st.permutations(range(len(x))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(x)), max_size=4)))
    beside = np.full((1, x.shape[1]), 1e38, np.float32)
    for kernel in kernels:
        (whole,) = run_on(kernel, weights, [x], 1)
        groups = [np.concatenate([beside, group]) for group in np.split(x[order], cuts)]
        parts = [run_on(kernel, weights, [group], 1)[0][1:] for group in groups]
        assert same([np.concatenate(parts)], [whole[order]]), kernel


@EXAMPLES
@given(layers.convolution(), st.data())
def test_a_convolution_goes_on_where_it_stopped(
    kernels: list[str], case: Case, data: st.DataObject
) -> None:
    x, past = case.inputs
    slot = case.layer.header.slot
    cut = data.draw(st.integers(0, x.shape[1]))
    weights = load(pack_file([case.layer]))
    for kernel in kernels:
        whole, end = run_on(kernel, weights, [x, past], 2)
        first, middle = run_on(kernel, weights, [x[:, :cut], past], 2)
        state = past.copy()
        state[slot] = middle[0]
        second, last = run_on(kernel, weights, [x[:, cut:], state], 2)
        assert same([np.concatenate([first, second], axis=1), last], [whole, end]), kernel


@EXAMPLES
@given(layers.subsampling(), st.data())
def test_a_subsampled_frame_depends_on_its_seven_alone(
    kernels: list[str], case: Case, data: st.DataObject
) -> None:
    (feats,) = case.inputs
    weights = load(pack_file([case.layer]))
    for kernel in kernels:
        (whole,) = run_on(kernel, weights, [feats], 1)
        frame = data.draw(st.integers(0, whole.shape[1] - 1))
        (alone,) = run_on(kernel, weights, [feats[:, 4 * frame : 4 * frame + 7]], 1)
        assert same([alone], [whole[:, frame : frame + 1]]), kernel


@EXAMPLES
@given(layers.attention())
def test_attention_keeps_the_last_frames_and_sees_no_hidden_ones(
    kernels: list[str], case: Case
) -> None:
    x, positions, hidden, *state = case.inputs
    slot, left, frames = case.layer.header.slot, state[0].shape[3], x.shape[1]
    weights = load(pack_file([case.layer]))
    for kernel in kernels:
        y, *after = run_on(kernel, weights, case.inputs, 4)
        for new, old in zip(after, state, strict=True):
            assert new.shape == (1, *old.shape[1:])
            kept = max(0, left - frames)
            assert same([new[:, :, :, :kept]], [old[slot : slot + 1, :, :, left - kept :]])
        for number in (7.0, np.nan):
            other = [array.copy() for array in state]
            for array in other:
                array[slot, :, :, : int(hidden[0])] = number
                array[np.arange(len(array)) != slot] = number
            changed, *_ = run_on(kernel, weights, [x, positions, hidden, *other], 4)
            assert same([changed], [y]), kernel


@pytest.mark.parametrize("rows", [200, 3000])
def test_many_rows_are_cut_into_blocks(kernels: list[str], rows: int) -> None:
    maker = Maker(np.random.default_rng(0))
    layer, _, _ = maker.feed_forward(40, 520, 40, layers.RELU, 3, 2)
    weights, x = load(pack_file([layer])), maker.vector(rows, 40)
    for kernel in kernels:
        (whole,) = run_on(kernel, weights, [x], 1)
        parts: list[Floats] = [
            run_on(kernel, weights, [x[i : i + 77]], 1)[0] for i in range(0, rows, 77)
        ]
        assert same([np.concatenate(parts)], [whole]), kernel


@EXAMPLES
@given(ROWS, st.sampled_from((np.nan, np.inf, -np.inf)), st.data())
def test_a_row_that_is_not_finite_gives_no_number(
    kernels: list[str], case: Case, special: float, data: st.DataObject
) -> None:
    """Bytes cannot say so: the row's scale does."""
    (x,) = case.inputs
    assume(len(x))
    weights = load(pack_file([case.layer]))
    row, column = (data.draw(st.integers(0, size - 1)) for size in x.shape)
    others = np.arange(len(x)) != row
    for kernel in kernels:
        (before,) = run_on(kernel, weights, [x], 1)
        poisoned = x.copy()
        poisoned[row, column] = special
        (after,) = run_on(kernel, weights, [poisoned], 1)
        assert np.isnan(after[row]).all(), kernel
        assert same([after[others]], [before[others]]), kernel
