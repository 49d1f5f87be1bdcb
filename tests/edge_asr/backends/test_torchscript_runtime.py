"""The TorchScript backend: only stored archives, only programs of the right form."""

from __future__ import annotations

import io
import zipfile

import msgspec
import numpy as np
import pytest
import torch

from edge_asr.backends import open_decoder, open_encoder
from edge_asr.backends.state import zero_state
from edge_asr.errors import BackendError
from tests.tiny import DECODER, ENCODER


class Sums(torch.nn.Module):
    """Log-probabilities that depend on all inputs; the state sums up what came."""

    def forward(
        self, feats: torch.Tensor, offset: torch.Tensor, last: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        out = feats[:, :-6:4, :4] + last + offset
        return out, torch.log_softmax(feats[:, :-6:4, :7] + last.sum(), -1), last + feats.sum()


class Counts(torch.nn.Module):
    """Scores that depend on all inputs."""

    def forward(
        self, hyps: torch.Tensor, hyp_lengths: torch.Tensor, encoder_out: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        left = torch.nn.functional.pad(hyps, (0, 1)) + encoder_out.sum()
        return left, left + hyp_lengths.unsqueeze(1)


class Single(torch.nn.Module):
    """One tensor, where a tuple of two is due."""

    def forward(
        self, hyps: torch.Tensor, hyp_lengths: torch.Tensor, encoder_out: torch.Tensor
    ) -> torch.Tensor:
        return hyps + encoder_out.sum()


def saved(module: type[torch.nn.Module] = Sums) -> bytes:
    """As torch saves it: code is deflated."""
    data = io.BytesIO()
    torch.jit.save(torch.jit.script(module().eval()), data)
    return data.getvalue()


def repacked(compression: int, module: type[torch.nn.Module] = Sums) -> bytes:
    data = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved(module))) as old,
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


HYPS, LENGTHS = np.arange(6).reshape(2, 3), np.array([3, 1])
MEMORY = np.ones((1, 5, 4), np.float32)


def test_a_decoder_scores() -> None:
    decoder = open_decoder("torchscript", repacked(zipfile.ZIP_STORED, Counts), DECODER)
    scores = decoder.score(HYPS, LENGTHS, MEMORY)
    np.testing.assert_array_equal(scores.left, np.pad(HYPS, ((0, 0), (0, 1))) + 20)
    np.testing.assert_array_equal(scores.right - scores.left, LENGTHS[:, None].repeat(4, 1))
    with pytest.raises(BackendError, match="failed in a step"):
        decoder.score(HYPS, np.arange(7), MEMORY)


def test_an_encoder_is_no_decoder() -> None:
    stateless = msgspec.structs.replace(ENCODER, state=())
    decoder = repacked(zipfile.ZIP_STORED, Counts)
    with pytest.raises(BackendError, match="expected 2 arguments, found 3"):
        open_encoder("torchscript", decoder, stateless)
    single = open_decoder("torchscript", repacked(zipfile.ZIP_STORED, Single), DECODER)
    with pytest.raises(BackendError, match="no tuple of 2 tensors"):
        single.score(HYPS, LENGTHS, MEMORY)
