"""Random checkpoints: loadable, the same again from the same seed, with sane activations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark.paper.floors import read_routing
from benchmark.paper.models import BLANK, SCALES, main, random_weights, size_of, write_model
from benchmark.paper.routing import measure_routing
from benchmark.paper.workload import features
from edge_asr.errors import UsageError
from model.checkpoint import load_checkpoint
from model.network import Network
from model.routing import expert_layers
from tests.benchmark.paper.sizes import DENSE, MOE


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "moe"
    write_model(MOE, folder)
    return folder


@pytest.fixture(scope="module")
def network(experts: Path) -> Network:
    return load_checkpoint(experts).network


@torch.inference_mode()
def test_activations_stay_sane(network: Network) -> None:
    state = network.encoder.zero_state(0)
    feats = torch.from_numpy(features(800))
    assert float(network.encoder.global_cmvn(feats).std()) == pytest.approx(1.0, abs=0.02)
    out, log_probs, _ = network.step(feats, torch.tensor([0]), state)
    assert 0.5 < float(out.std()) < 2.0
    assert set(log_probs.argmax(dim=-1).flatten().tolist()) == {BLANK}
    assert 0.5 < float(log_probs[..., BLANK + 1 :].std()) < 2.0
    for layer in expert_layers(network).values():
        rows = torch.randn(50, MOE.dim)
        assert 0.3 < float(layer(rows.unsqueeze(0)).std()) < 3.0


def test_frames_go_to_nearly_all_experts(experts: Path, network: Network) -> None:
    routing = read_routing(experts)
    names = {"encoder": [], "decoder": []}  # type: dict[str, list[str]]
    for name in expert_layers(network):
        names[name.partition(".")[0]].append(name)
    assert list(routing["chunk"]) == list(routing["chunk_top_1"]) == names["encoder"]
    assert list(routing["second"]) == names["decoder"]
    for both, best in zip(routing["chunk"].values(), routing["chunk_top_1"].values(), strict=True):
        assert len(both) == len(best) == 6
        assert 6.5 < sum(both) / len(both) <= 8.0
        assert all(few <= many for few, many in zip(best, both, strict=True))
    # float16 routers, as they are stored, choose the same but for ties.
    again = measure_routing(network)["chunk"]
    for name, counts in routing["chunk"].items():
        assert sum(counts) == pytest.approx(sum(again[name]), abs=2)


def test_seeds_make_the_weights() -> None:
    first, same, other = (random_weights(DENSE, seed) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    matrix = "encoder.encoders.0.feed_forward.w_1.weight"
    assert not torch.equal(first[matrix], other[matrix])
    assert not torch.equal(first[matrix], first[matrix.replace("w_1", "w_2")].t())


@pytest.mark.slow
def test_sizes_are_those_of_the_paper() -> None:
    counts = []
    for size in SCALES["paper"]:
        with torch.device("meta"):
            from benchmark.paper.models import config_tree
            from model.config import network_config

            network = Network(network_config(config_tree(size), size.name))
        counts.append(sum(p.numel() for p in network.parameters()) / 1e6)
    assert counts == pytest.approx([241, 1068, 1100], abs=1)
    assert counts[1] / counts[0] == pytest.approx(4.4, abs=0.05)


def test_the_command_makes_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--work", str(tmp_path), "--scale", "tiny", "--models", "dense-225m"]
    assert main(arguments) == 0
    written = (tmp_path / "dense-225m" / "final.pt").stat().st_mtime_ns
    assert main(arguments) == 0
    assert (tmp_path / "dense-225m" / "final.pt").stat().st_mtime_ns == written
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "dense-225m")] * 2
    assert main(["--scale", "huge"]) == 64
    assert main(["--models", "moe-2b"]) == 64


def test_unknown_names() -> None:
    with pytest.raises(UsageError, match="choose one of: paper, tiny"):
        size_of("huge", "moe-1b")
    with pytest.raises(UsageError, match="dense-225m, moe-1b, dense-1b"):
        size_of("tiny", "moe-2b")
