"""What the tests of the kernels share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge_asr.native import library


@pytest.fixture(scope="module")
def kernels() -> Iterator[list[str]]:
    """Names of the kernels that can run here, fastest first; the test may choose among them."""
    if not library.built():
        pytest.skip("the kernels are not built; run: make native")
    names = [name for name, can_run in library.kernels().items() if can_run]
    opened = library.library()
    before, threads = opened.edge_asr_kernel(), opened.edge_asr_threads()
    yield names
    opened.edge_asr_set_kernel(before)
    opened.edge_asr_set_threads(threads)
