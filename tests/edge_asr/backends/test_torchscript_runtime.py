"""The TorchScript backend: only stored archives, only programs of the right form."""

from __future__ import annotations

import io
import zipfile

import msgspec
import numpy as np
import pytest
import torch

from edge_asr.backends import open_encoder, zero_state
from edge_asr.errors import BackendError
from tests.tiny import ENCODER


class Sums(torch.nn.Module):
    """Log-probabilities that depend on all inputs; the state sums up what came."""

    def forward(
        self, feats: torch.Tensor, offset: torch.Tensor, last: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        out = feats[:, :-6:4, :4] + last + offset
        return out, torch.log_softmax(feats[:, :-6:4, :7] + last.sum(), -1), last + feats.sum()


def saved() -> bytes:
    """As torch saves it: code is deflated."""
    data = io.BytesIO()
    torch.jit.save(torch.jit.script(Sums().eval()), data)
    return data.getvalue()


def repacked(compression: int) -> bytes:
    data = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved())) as old,
        zipfile.ZipFile(data, "w", compression) as new,
    ):
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    return data.getvalue()


PROGRAM = repacked(zipfile.ZIP_STORED)
FEATS = np.random.default_rng(0).standard_normal((1, 67, 16)).astype(np.float32)


def test_a_step_is_pure() -> None:
    encoder = open_encoder("torchscript", PROGRAM, ENCODER, threads=1)
    state = zero_state(ENCODER)
    first = encoder.step(FEATS, 0, state)
    kept = first.state[0].copy()
    second = encoder.step(FEATS, 16, first.state)
    assert not state[0].any()
    np.testing.assert_array_equal(first.state[0], kept)
    assert not np.array_equal(first.log_probs, second.log_probs)
    np.testing.assert_array_equal(encoder.step(FEATS, 0, state).log_probs, first.log_probs)


def test_a_window_of_features_may_be_a_view() -> None:
    encoder = open_encoder("torchscript", PROGRAM, ENCODER)
    view = np.concatenate([FEATS, FEATS], axis=1)[:, 67:]
    whole = encoder.step(FEATS, 0, zero_state(ENCODER)).log_probs
    np.testing.assert_array_equal(encoder.step(view, 0, zero_state(ENCODER)).log_probs, whole)


def test_each_encoder_has_its_threads() -> None:
    one, two = (open_encoder("torchscript", PROGRAM, ENCODER, threads=n) for n in (1, 2))
    for encoder, threads in ((one, 1), (two, 2), (one, 1)):
        encoder.step(FEATS, 0, zero_state(ENCODER))
        assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (b"", "not an archive"),
        (b"hello", "not an archive"),
        (PROGRAM[:-30], "not an archive"),
        (saved(), "is compressed"),
        (repacked(zipfile.ZIP_LZMA), "is compressed"),
        (b"PK\x05\x06" + bytes(18), "refuses the program"),
    ],
    ids=["empty", "text", "cut", "as torch saves", "lzma", "nothing inside"],
)
def test_a_bad_archive_is_refused(program: bytes, reason: str) -> None:
    with pytest.raises(BackendError, match=reason) as caught:
        open_encoder("torchscript", program, ENCODER)
    assert "\n" not in str(caught.value)


def test_members_that_share_their_bytes_are_refused() -> None:
    # The central directory lists one member a thousand times: small file, large memory.
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("data", bytes(100_000))
        member = archive.infolist()[0]
        archive.filelist += [member] * 1000
    with pytest.raises(BackendError, match="unpacks to"):
        open_encoder("torchscript", data.getvalue(), ENCODER)


def test_a_program_of_another_form_is_refused() -> None:
    stateless = msgspec.structs.replace(ENCODER, state=())
    with pytest.raises(BackendError, match="expected 2 arguments, found 3"):
        open_encoder("torchscript", PROGRAM, stateless)


def test_a_step_that_fails_is_our_error() -> None:
    encoder = open_encoder("torchscript", PROGRAM, ENCODER)
    with pytest.raises(BackendError, match="failed in a step") as caught:
        encoder.step(FEATS[0, 0], 0, zero_state(ENCODER))
    assert "\n" not in str(caught.value)
