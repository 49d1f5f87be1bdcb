"""The ExecuTorch programs in tests/data/executorch, and what they compute.

``python -m tests.edge_asr.native.programs`` exports them anew. They are kept, so that the tests of
the runtime are quick and need no torch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.tiny import DECODER

FOLDER = Path(__file__).parents[2] / "data" / "executorch"
MAX_FRAMES = 64
FloatArray = npt.NDArray[np.float32]


def sums() -> bytes:
    """A stateful encoder that fits ``tests.tiny.ENCODER``; its linear layer is XNNPACK's."""
    return (FOLDER / "sums.pte").read_bytes()


def twice() -> bytes:
    """(2, 3) float32 times two, by the operator ``edge_asr_toy::twice``, which nobody has."""
    return (FOLDER / "twice.pte").read_bytes()


def scores() -> bytes:
    """A decoder that fits ``tests.tiny.DECODER``."""
    return (FOLDER / "scores.pte").read_bytes()


def weight() -> FloatArray:
    """(7, 16): of the linear layer of ``sums``."""
    return (np.arange(7 * 16, dtype=np.float32).reshape(7, 16) % 11 - 5) / 8


def expected_sums(feats: FloatArray, offset: int, last: FloatArray) -> list[FloatArray]:
    """The outputs of ``sums``: encoder_out, log_probs, next last."""
    rows = feats[:, :-6:4]
    logits = rows @ weight().T + last.sum()
    logits -= logits.max(-1, keepdims=True)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return [rows[..., :4] + last + offset, log_probs, last + feats.sum()]


def export_sums() -> bytes:
    """Lower ``sums`` with torch."""
    import torch

    class Sums(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(16, 7, bias=False)
            self.linear.weight.data = torch.from_numpy(weight())

        def forward(
            self, feats: torch.Tensor, offset: torch.Tensor, last: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            rows = feats[:, :-6:4]
            log_probs = torch.log_softmax(self.linear(rows) + last.sum(), -1)
            return rows[:, :, :4] + last + offset, log_probs, last + feats.sum()

    frames = torch.export.Dim("frames", min=1, max=MAX_FRAMES)
    example = (torch.randn(1, 67, 16), torch.tensor([0]), torch.zeros(1, 1, 4))
    shapes = ({1: 4 * frames + 3}, None, None)
    return _lower(torch.export.export(Sums().eval(), example, dynamic_shapes=shapes))


def expected_scores(
    hyps: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], memory: FloatArray
) -> list[FloatArray]:
    """The outputs of ``scores``: they depend on all inputs, and neither is right."""
    left = np.pad(hyps, ((0, 0), (0, 1))) + memory.sum()
    return [left.astype(np.float32), (left + lengths[:, None]).astype(np.float32)]


def export_scores() -> bytes:
    """Lower ``scores`` with torch."""
    import torch

    class Scores(torch.nn.Module):
        def forward(
            self, hyps: torch.Tensor, lengths: torch.Tensor, memory: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            left = torch.nn.functional.pad(hyps, (0, 1)).to(torch.float32) + memory.sum()
            return left, left + lengths.unsqueeze(1).to(torch.float32)

    rows = torch.export.Dim("rows", min=1, max=DECODER.max_hyps)
    units = torch.export.Dim("units", min=1, max=DECODER.max_units)
    frames = torch.export.Dim("frames", min=1, max=DECODER.max_frames)
    example = (torch.ones(3, 5, dtype=torch.int64), torch.tensor([5, 2, 0]), torch.randn(1, 7, 4))
    shapes = ({0: rows, 1: units}, {0: rows}, {1: frames})
    return _lower(torch.export.export(Scores(), example, dynamic_shapes=shapes))


def export_twice() -> bytes:
    """Lower ``twice`` with torch."""
    import torch

    library = torch.library.Library("edge_asr_toy", "DEF")
    library.define("twice(Tensor x) -> Tensor")
    library.define("twice.out(Tensor x, *, Tensor(a!) out) -> Tensor(a!)")
    library.impl("twice", lambda x: x * 2, "CPU")
    library.impl("twice", torch.empty_like, "Meta")
    library.impl("twice.out", lambda x, *, out: out.copy_(x * 2), "CPU")

    class Twice(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ops.edge_asr_toy.twice(x)

    return _lower(torch.export.export(Twice(), (torch.zeros(2, 3),)))


def _lower(exported: object) -> bytes:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    edge = to_edge_transform_and_lower(
        exported,
        partitioner=[XnnpackPartitioner()],
        compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True),
    )
    return bytes(edge.to_executorch().buffer)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "sums.pte").write_bytes(export_sums())
    (FOLDER / "scores.pte").write_bytes(export_scores())
    (FOLDER / "twice.pte").write_bytes(export_twice())
