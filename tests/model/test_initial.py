"""Beginning with another model's encoder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from edge_asr.errors import ConfigError
from model.checkpoint import load_checkpoint
from model.initial import begin_from, freeze
from model.network import Network
from model.train import Trainer
from tests.model.test_train import trainer


def stored(folder: Path, **encoder: int) -> Trainer:
    first = trainer(folder, encoder)
    first.save()
    return first


def test_encoder_and_the_rows_of_shared_units_are_taken_over(tmp_path: Path) -> None:
    first = stored(tmp_path / "first")
    symbols = first.data.tokenizer.symbols
    theirs = load_checkpoint(tmp_path / "first")
    others = [*symbols[:5], "NEW", *reversed(symbols[5:])]
    conf = dataclasses.replace(theirs.conf, vocab_size=len(others))
    torch.manual_seed(5)
    ours = Network(conf)
    fresh = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    begin_from(ours, others, theirs)
    source = theirs.network.state_dict()
    for name, tensor in ours.state_dict().items():
        if tensor.shape == source[name].shape:
            torch.testing.assert_close(tensor, source[name], atol=0, rtol=0)
            continue
        for row, symbol in enumerate(others):
            expected = fresh[name][row] if symbol == "NEW" else source[name][symbols.index(symbol)]
            torch.testing.assert_close(tensor[row], expected, atol=0, rtol=0)


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    stored(tmp_path / "first", num_blocks=1)
    theirs = load_checkpoint(tmp_path / "first")
    conf = dataclasses.replace(theirs.conf, kernel=theirs.conf.kernel + 1)
    with pytest.raises(ConfigError, match="depthwise_conv"):
        begin_from(Network(conf), theirs.symbols, theirs)


def test_frozen_parameters_stay_and_others_move(tmp_path: Path) -> None:
    stored(tmp_path / "first")
    second = trainer(tmp_path / "second", init="first", frozen=["encoder.embed.conv"])
    before = {name: tensor.clone() for name, tensor in second.network.state_dict().items()}
    start = load_checkpoint(tmp_path / "first").network.state_dict()
    torch.testing.assert_close(
        before["encoder.embed.conv.0.weight"], start["encoder.embed.conv.0.weight"], atol=0, rtol=0
    )
    source = second.batches()
    for _ in range(3):
        second.train_step(next(source))
    after = second.network.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(name.startswith("encoder.embed.conv") for name in moved)
    assert "encoder.embed.out.0.weight" in moved and "ctc.ctc_lo.weight" in moved


def test_a_star_stands_for_any_block_or_expert(tmp_path: Path) -> None:
    network = trainer(tmp_path, {"mlp_type": "moe", "n_expert": 2, "n_expert_activated": 1}).network
    freeze(network, ["encoder.encoders.*.experts.*.weight"])
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    expected = {
        name
        for name, _ in network.named_parameters()
        if name.startswith("encoder.encoders.")
        and ".experts." in name
        and name.endswith((".w_1.weight", ".w_2.weight"))
    }
    assert frozen == expected and len({name.split(".")[2] for name in frozen}) > 1


def test_a_name_that_no_parameter_has(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"encoder\.embd"):
        freeze(trainer(tmp_path).network, ["encoder.embd"])
