"""A delegate of XNNPACK with other weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from executorch.backends.xnnpack._passes import XNNPACKPassManager
from executorch.backends.xnnpack.xnnpack_preprocess import XnnpackBackend
from executorch.exir.backend.compile_spec_schema import CompileSpec
from executorch.exir.lowered_backend_module import LoweredBackendModule
from torch import Tensor
from torch.export.exported_program import ExportedProgram

# Of XNNPACK's passes, run only the one that finds linear layers: there are no more to be found.
NO_PASSES = [CompileSpec("dqlinear_partitioner", b"")]


class Delegate:
    """A lowered part of a program, whose passes over its graph are kept."""

    def __init__(self, lowered: LoweredBackendModule) -> None:
        self.lowered = lowered
        self.program: ExportedProgram = lowered.original_module
        self.specs = lowered.compile_specs
        passed = XNNPACKPassManager(_with_tensors(self.program, {})).transform()
        if _same_tensors(passed, self.program):
            self.program, self.specs = passed, NO_PASSES

    def with_tensors(
        self, prefix: tuple[str, str], tensors: Mapping[str, Tensor]
    ) -> LoweredBackendModule:
        """The same on ``tensors``, by name; of names that begin with the first prefix, it is
        replaced by the second."""
        own = {
            name: tensors[name.replace(*prefix, 1)]
            for name in self.program.state_dict
            if name.startswith(prefix[0])
        }
        done = XnnpackBackend.preprocess(_with_tensors(self.program, own), self.specs)
        lowered = LoweredBackendModule(
            edge_program=_with_tensors(self.lowered.original_module, own),
            backend_id=self.lowered.backend_id,
            processed_bytes=done.processed_bytes,
            compile_specs=self.lowered.compile_specs,
            named_data_store_output=done.data_store_output,
        )
        lowered.meta = {"debug_handle_map": done.debug_handle_map}
        return lowered


def _with_tensors(program: ExportedProgram, own: Mapping[str, Tensor]) -> ExportedProgram:
    """A copy of the program in which tensors are replaced by name."""
    graph_module = copy.deepcopy(program.graph_module)
    return ExportedProgram(
        root=graph_module,
        graph=graph_module.graph,
        graph_signature=copy.deepcopy(program.graph_signature),
        state_dict={name: own.get(name, one) for name, one in program.state_dict.items()},
        range_constraints=program.range_constraints,
        module_call_graph=program.module_call_graph,
        constants=program.constants,
        verifiers=[program.verifier],
    )


def _same_tensors(one: ExportedProgram, other: ExportedProgram) -> bool:
    """Whether no pass has computed a tensor of others."""
    return all(
        mine.keys() == theirs.keys() and all(mine[name] is theirs[name] for name in mine)
        for mine, theirs in (
            (one.state_dict, other.state_dict),
            (one.constants, other.constants),
        )
    )
