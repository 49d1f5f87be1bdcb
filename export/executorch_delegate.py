"""Delegates of XNNPACK, made of one graph for many sets of weights.

ExecuTorch runs 17 passes over the graph of each delegate, a hundred times for graphs that differ in
their weights alone. So the partitioner gives its parts to a backend that does nothing,
``PlannedBackend``, and they become XNNPACK's here, with one run of the passes for each graph.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property

from executorch.backends.xnnpack._passes import XNNPACKPassManager
from executorch.backends.xnnpack.xnnpack_preprocess import XnnpackBackend
from executorch.exir.backend.backend_details import BackendDetails, PreprocessResult
from executorch.exir.backend.compile_spec_schema import CompileSpec
from executorch.exir.lowered_backend_module import LoweredBackendModule
from torch import Tensor
from torch.export.exported_program import ExportedProgram

# Of the passes only the one that looks for linear layers, where there are no more to be found.
PASSED = [CompileSpec("dqlinear_partitioner", b"")]


class PlannedBackend(BackendDetails):
    """What becomes a delegate of XNNPACK. ExecuTorch finds it by its name."""

    @staticmethod
    def preprocess(
        edge_program: ExportedProgram, compile_specs: list[CompileSpec]
    ) -> PreprocessResult:
        """Nothing yet."""
        return PreprocessResult(processed_bytes=b"")


class Delegate:
    """The program of a delegate, for any weights."""

    def __init__(self, program: ExportedProgram) -> None:
        self.program = program

    def lowered(self, own: Mapping[str, Tensor]) -> LoweredBackendModule:
        """The delegate of XNNPACK, with tensors ``own`` in the place of those of their names."""
        passed, specs = self._passed
        done = XnnpackBackend.preprocess(_with_tensors(passed, own), specs)
        lowered = LoweredBackendModule(
            edge_program=_with_tensors(self.program, own),
            backend_id=XnnpackBackend.__name__,
            processed_bytes=done.processed_bytes,
            compile_specs=[],
            named_data_store_output=done.data_store_output,
        )
        lowered.meta = {"debug_handle_map": done.debug_handle_map}
        return lowered

    @cached_property
    def _passed(self) -> tuple[ExportedProgram, list[CompileSpec]]:
        """The program after the passes, and how to lower it: without them, where they have not
        computed tensors from tensors."""
        passed = XNNPACKPassManager(_with_tensors(self.program, {})).transform()
        before, after = ({**one.state_dict, **one.constants} for one in (self.program, passed))
        if before.keys() == after.keys() and all(after[name] is before[name] for name in before):
            return passed, PASSED
        return self.program, []


def _with_tensors(program: ExportedProgram, own: Mapping[str, Tensor]) -> ExportedProgram:
    """A copy of the program, with tensors ``own`` in the place of those of their names."""
    graph_module = copy.deepcopy(program.graph_module)
    return ExportedProgram(
        root=graph_module,
        graph=graph_module.graph,
        graph_signature=copy.deepcopy(program.graph_signature),
        state_dict={name: own.get(name, one) for name, one in program.state_dict.items()},
        range_constraints=program.range_constraints,
        module_call_graph=program.module_call_graph,
        constants=dict(program.constants),
        verifiers=[program.verifier],
    )
