"""Checkpoint directories: read strictly, written whole."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from edge_asr.errors import ConfigError, EdgeAsrError, InputMissingError
from model.checkpoint import DECODER_WEIGHTS, load_checkpoint, save_checkpoint, save_decoder
from tests.model.networks import SYMBOLS, network, speech, tree
from tests.paths import DATA

MOE = DATA / "wenet-moe"
Weights = dict[str, Tensor]


@pytest.fixture
def wenet(tmp_path: Path) -> Path:
    """WeNet's tiny MoE, to damage."""
    return shutil.copytree(MOE, tmp_path / "wenet")


def change_weights(folder: Path, change: Callable[[Weights], Any]) -> None:
    weights = torch.load(folder / "final.pt", weights_only=True)
    change(weights)
    torch.save(weights, folder / "final.pt")


def change_yaml(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    conf = yaml.safe_load((folder / "train.yaml").read_text())
    change(conf)
    (folder / "train.yaml").write_text(yaml.safe_dump(conf))


def refusal(folder: Path, kind: type[EdgeAsrError] = ConfigError) -> str:
    with pytest.raises(kind) as caught:
        load_checkpoint(folder)
    message = str(caught.value)
    assert "\n" not in message and str(folder) in message
    return message


@pytest.mark.parametrize("name", ["train.yaml", "final.pt", "units.txt"])
def test_missing_file(wenet: Path, name: str) -> None:
    (wenet / name).unlink()
    assert name in refusal(wenet, InputMissingError)


def test_missing_directory(tmp_path: Path) -> None:
    refusal(tmp_path / "nowhere", InputMissingError)


def test_missing_tensor(wenet: Path) -> None:
    name = "encoder.encoders.1.feed_forward.experts.7.w_2.bias"
    change_weights(wenet, lambda weights: weights.pop(name))
    assert name in refusal(wenet)


def test_extra_tensor(wenet: Path) -> None:
    name = "encoder.encoders.0.self_attn.adapter.weight"
    change_weights(wenet, lambda weights: weights.update({name: torch.zeros(2)}))
    assert name in refusal(wenet)


def test_wrong_shape(wenet: Path) -> None:
    change_weights(wenet, lambda weights: weights.update({"ctc.ctc_lo.bias": torch.zeros(13)}))
    message = refusal(wenet)
    assert "ctc.ctc_lo.bias" in message and "(13,)" in message and "(12,)" in message


def test_fewer_experts_than_the_state_dict_has(wenet: Path) -> None:
    """Silently leaving experts out would change the function."""
    change_yaml(wenet, lambda conf: conf["encoder_conf"].update(n_expert=4))
    assert "experts.4" in refusal(wenet)


def test_units_of_another_model(wenet: Path) -> None:
    with (wenet / "units.txt").open("a", encoding="utf-8") as file:
        file.write("more 12\n")
    message = refusal(wenet)
    assert "13" in message and "12" in message


class Opens:
    """What a malicious pickle would run when it is loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.path, "w"))


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_pickle_with_code_is_refused_and_not_run(wenet: Path, tmp_path: Path, how: str) -> None:
    trace = tmp_path / "executed"
    if how == "torch":
        torch.save({"a": Opens(str(trace))}, wenet / "final.pt")
    else:
        (wenet / "final.pt").write_bytes(pickle.dumps(Opens(str(trace))))
    refusal(wenet)
    assert not trace.exists()


@pytest.mark.parametrize("keep", [0, 1, 100, 5000, -1000, -1])
def test_cut_off_file(wenet: Path, keep: int) -> None:
    data = (wenet / "final.pt").read_bytes()
    (wenet / "final.pt").write_bytes(data[:keep])
    refusal(wenet)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, torch.zeros(3)])
def test_not_a_state_dict(wenet: Path, content: Any) -> None:
    torch.save(content, wenet / "final.pt")
    assert "state_dict" in refusal(wenet)


def module(weights: Weights) -> Weights:
    return {f"module.{name}": tensor for name, tensor in weights.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        module,
        lambda weights: {"model": weights, "epoch": 3, "optimizer": {"lr": 0.1}},
        lambda weights: {"module": module(weights), "global_steps": 9},
        lambda weights: {"state_dict": {f"model.{name}": t for name, t in weights.items()}},
        lambda weights: {"model": {"model_state_dict": weights}},
        lambda weights: {f"_orig_mod.module.{name}": t for name, t in weights.items()},
    ],
)
def test_weights_that_a_framework_wrapped(wenet: Path, wrap: Callable[[Weights], Any]) -> None:
    before = load_checkpoint(wenet).network.state_dict()
    weights = torch.load(wenet / "final.pt", weights_only=True)
    torch.save(wrap(weights), wenet / "final.pt")
    for name, tensor in load_checkpoint(wenet).network.state_dict().items():
        torch.testing.assert_close(tensor, before[name], atol=0, rtol=0)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ({"epoch": 3, "step": 5}, "a dict with 'epoch', 'step'"),
        ({"model": {"epoch": 3}}, "a dict with 'epoch'"),
        ({1: torch.zeros(2)}, "a dict with 1"),
        ([torch.zeros(2)], "this is a list"),
    ],
)
def test_what_is_found_instead_of_weights(wenet: Path, content: Any, part: str) -> None:
    torch.save(content, wenet / "final.pt")
    assert part in refusal(wenet)


def test_a_prefix_of_some_names_is_no_prefix(wenet: Path) -> None:
    change_weights(wenet, lambda weights: weights.update({"module.more": torch.zeros(2)}))
    assert "module.more" in refusal(wenet)


def test_old_and_training_only_tensors_are_left_out(wenet: Path) -> None:
    before = load_checkpoint(wenet).network.state_dict()

    def add(weights: Weights) -> None:
        weights["encoder.embed.pos_enc.pe"] = torch.zeros(1, 5000, 16)
        weights["decoder.left_decoder.embed.1.pe"] = torch.zeros(1, 5000, 16)
        weights["encoder.encoders.0.concat_linear.weight"] = torch.zeros(16, 32)
        weights["decoder.left_decoder.decoders.0.concat_linear1.bias"] = torch.zeros(16)
        weights["encoder.encoders.0.feed_forward.noisy_gate.weight"] = torch.zeros(8, 16)

    change_weights(wenet, add)
    for name, tensor in load_checkpoint(wenet).network.state_dict().items():
        torch.testing.assert_close(tensor, before[name], atol=0, rtol=0)


def without_cmvn(weights: Weights) -> None:
    del weights["encoder.global_cmvn.mean"], weights["encoder.global_cmvn.istd"]


def test_global_cmvn_of_the_json_file(wenet: Path) -> None:
    change_weights(wenet, without_cmvn)
    mean, std = np.linspace(5, 15, 80), np.linspace(1, 3, 80)
    stats = {
        "frame_num": 1000,
        "mean_stat": (1000 * mean).tolist(),
        "var_stat": (1000 * (std**2 + mean**2)).tolist(),
    }
    (wenet / "global_cmvn").write_text(json.dumps(stats))
    cmvn = load_checkpoint(wenet).network.encoder.global_cmvn
    np.testing.assert_allclose(cmvn.mean.numpy(), mean, rtol=1e-6)
    np.testing.assert_allclose(cmvn.istd.numpy(), 1 / std, rtol=1e-4)


def test_state_dict_wins_over_the_json_file(wenet: Path) -> None:
    before = load_checkpoint(wenet).network.encoder.global_cmvn.mean
    (wenet / "global_cmvn").write_text("{}")
    torch.testing.assert_close(load_checkpoint(wenet).network.encoder.global_cmvn.mean, before)


def test_missing_cmvn_is_an_error_where_one_is_named(wenet: Path) -> None:
    change_weights(wenet, without_cmvn)
    assert "global_cmvn" in refusal(wenet, InputMissingError)
    change_yaml(wenet, lambda conf: (conf.pop("cmvn"), conf.pop("cmvn_conf")))
    cmvn = load_checkpoint(wenet).network.encoder.global_cmvn
    assert cmvn.mean.abs().max() == 0 and (cmvn.istd == 1).all()


@pytest.mark.parametrize(
    "stats",
    [
        "",
        "{}",
        "[1]",
        '{"mean_stat": [1], "var_stat": [1], "frame_num": 1}',
        '{"mean_stat": "a", "var_stat": [], "frame_num": 1}',
        '{"mean_stat": [], "var_stat": [], "frame_num": 0}',
    ],
)
def test_damaged_cmvn_file(wenet: Path, stats: str) -> None:
    change_weights(wenet, without_cmvn)
    (wenet / "global_cmvn").write_text(stats)
    assert "global_cmvn" in refusal(wenet)


def test_round_trip_in_half_precision(tmp_path: Path) -> None:
    made = network({"cnn_module_norm": "batch_norm"})
    conf = tree({"cnn_module_norm": "batch_norm"})
    save_checkpoint(made, SYMBOLS, conf, tmp_path / "saved", torch.float16)
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [
        "final.pt", "train.yaml", "units.txt",
    ]  # fmt: skip
    loaded = load_checkpoint(tmp_path / "saved")
    assert (
        loaded.symbols == SYMBOLS and loaded.described.tree == conf and not loaded.network.training
    )
    for name, tensor in made.state_dict().items():
        found = loaded.network.state_dict()[name]
        assert found.dtype == tensor.dtype
        if "cmvn" in name:
            torch.testing.assert_close(found, tensor, atol=0, rtol=0)
        elif tensor.is_floating_point():
            torch.testing.assert_close(found, tensor.half().float(), atol=0, rtol=0)
    with torch.inference_mode():
        state = made.encoder.zero_state(4)
        ours, theirs = (
            net.step(speech(67), torch.tensor([0]), state)[1] for net in (made, loaded.network)
        )
    torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"decoder": "transformer"},
        {"decoder_conf": {"attention_heads": 2, "linear_units": 12, "num_blocks": 1}},
        {"encoder": {"input_layer": "conv2d8", "mlp_type": "position_wise_feed_forward"}},
        {"encoder": {"input_layer": "conv2d6", "cnn_module_kernel": 2}},
    ],
)
def test_every_kind_of_network_can_be_saved_and_loaded(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    conf = tree(changes.get("encoder"), **{k: v for k, v in changes.items() if k != "encoder"})
    made = network(changes.get("encoder"), **{k: v for k, v in changes.items() if k != "encoder"})
    save_checkpoint(made, SYMBOLS, conf, tmp_path, torch.float32)
    loaded = load_checkpoint(tmp_path).network.state_dict()
    for name, tensor in made.state_dict().items():
        torch.testing.assert_close(loaded[name], tensor, atol=0, rtol=0)


def test_decoders_that_were_trained_further_take_the_place_of_the_others(wenet: Path) -> None:
    before = load_checkpoint(wenet).network.state_dict()
    later = load_checkpoint(wenet).network
    for tensor in later.state_dict().values():
        tensor += 1
    save_decoder(later, wenet, torch.float32)
    for name, tensor in load_checkpoint(wenet).network.state_dict().items():
        wanted = before[name] + (1 if name.startswith("decoder.") else 0)
        torch.testing.assert_close(tensor, wanted, rtol=0, atol=0)
    assert any(name.startswith("decoder.") for name in before)

    weights = torch.load(wenet / DECODER_WEIGHTS, weights_only=True)
    torch.save(weights | {"ctc.ctc_lo.bias": torch.zeros(2)}, wenet / DECODER_WEIGHTS)
    assert "ctc.ctc_lo.bias is no tensor of a decoder" in refusal(wenet)
    torch.save({"decoder.more": torch.zeros(2)}, wenet / DECODER_WEIGHTS)
    assert "decoder.more" in refusal(wenet)
    (wenet / DECODER_WEIGHTS).write_bytes(b"nothing")
    assert DECODER_WEIGHTS in refusal(wenet)
