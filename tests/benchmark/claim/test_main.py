"""benchmark.claim on tiny trainings: the table has what was trained, and its figures are
right."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import benchmark.claim.__main__ as claim
from benchmark.claim.__main__ import examples_of, touched
from edge_asr.audio.features import fbank
from edge_asr.package.manifest import FeatureSpec
from model.checkpoint import load_checkpoint
from model.evaluate import word_error_rate
from model.network import Network
from model.recordings import read_samples
from model.tokenizer import Tokenizer
from tests.model.test_train import trainer

DATA = Path(__file__).parents[2] / "data"
CLIP = DATA / "an4" / "an406-fcaw-b.flac"
DENSE = {"mlp_type": "position_wise_feed_forward"}


def test_experts_are_counted_per_layer_and_chunk(tmp_path: Path) -> None:
    trainer(tmp_path / "moe").save()
    trainer(tmp_path / "dense", DENSE).save()
    moe, dense = (load_checkpoint(tmp_path / name) for name in ("moe", "dense"))
    examples, _ = examples_of(DATA / "clips.tsv", moe)
    assert touched(dense, examples) == []
    found = touched(moe, examples, chunk=4)
    conf = moe.conf.feed_forward
    assert len(found) == 2 * moe.conf.blocks
    assert all(conf.n_expert_activated <= mean <= conf.n_expert for mean in found)
    # The first layer by hand, of the first utterance alone.
    one = examples[:1]
    seen: list[torch.Tensor] = []
    layer = moe.network.encoder.encoders[0].feed_forward_macaron
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    feats = torch.from_numpy(one[0].frames[0].astype(np.float32))
    moe.network.whole(feats[None], torch.tensor([len(feats)]), 4, claim.LEFT_CONTEXT)
    hook.remove()
    _, expert = layer.route(seen[0])
    counts = [len(expert[i : i + 4].unique()) for i in range(0, len(expert) // 4 * 4, 4)]
    assert touched(moe, one, chunk=4)[0] == pytest.approx(np.mean(counts))


def let_speak(network: Network) -> None:
    """So little training gives blanks only, which the exporter refuses. Random units are texts, if
    each is as probable as any in the mean over a clip."""
    torch.nn.init.normal_(network.ctc.ctc_lo.weight)
    torch.nn.init.zeros_(network.ctc.ctc_lo.bias)
    feats = torch.from_numpy(fbank(read_samples(CLIP, 16000), FeatureSpec()))[None]
    with torch.no_grad():
        out, _ = network.whole(feats, torch.tensor([feats.size(1)]), 16, claim.LEFT_CONTEXT)
        network.ctc.ctc_lo.bias.copy_(-network.ctc.ctc_lo(out)[0].mean(0))


@pytest.mark.slow
def test_the_page_and_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "SETS", ("clips.tsv",))
    monkeypatch.setattr(claim, "ROUNDS", 2)
    for name, encoder in (("dense-s-1", DENSE), ("moe-s-1", {}), ("moe-s-2", {})):
        ours = trainer(tmp_path / "claim" / name, encoder, seed=int(name[-1]))
        source = ours.batches()
        for _ in range(30):
            ours.train_step(next(source))
        let_speak(ours.average)
        ours.save()
    out = tmp_path / "claim.md"
    assert claim.main([str(tmp_path / "claim"), "--data", str(DATA), "-o", str(out)]) == 0
    figures = json.loads(out.with_suffix(".json").read_text())
    assert [(f["name"], f["seed"]) for f in figures] == [("dense-s", 1), ("moe-s", 1), ("moe-s", 2)]
    checkpoint = load_checkpoint(tmp_path / "claim" / "moe-s-2")
    examples, texts = examples_of(DATA / "clips.tsv", checkpoint)
    expected = word_error_rate(
        checkpoint.network, examples, texts, Tokenizer(checkpoint.symbols), 4, claim.LEFT_CONTEXT
    )
    assert figures[2]["wer"]["clips.tsv"]["4"] == float(f"{expected:.6g}")
    assert figures[0]["experts"] == [] and figures[1]["experts"]
    assert figures[1]["parameters"] > figures[0]["parameters"]
    assert figures[0]["time"] == 1.0 and figures[1]["rtf"] > 0 and figures[2]["time"] is None
    page = out.read_text()
    assert "| moe-s | 1, 2 | 30 |" in page
    assert "(claim.svg)" in page and "<svg" in out.with_suffix(".svg").read_text()
    assert "| dense-s |" in page and "| moe-s |" in page
    trained = ("dense-s moe-s", "1"), ("moe-s", "2")
    commands = [f'make claim RECIPES="{names}" SEEDS="{seeds}"' for names, seeds in trained]
    assert "\n".join(commands) in page
    # Figures of an earlier run stay, but for what is there again.
    known = tmp_path / "known.json"
    earlier = [
        {**figures[0], "steps": 7},
        {**figures[1], "seed": 3, "time": 1.5, "measured": "then"},
    ]
    known.write_text(json.dumps(earlier))
    shutil.rmtree(tmp_path / "claim" / "moe-s-2")
    command = [str(tmp_path / "claim"), "--data", str(DATA), "--known", str(known), "-o", str(out)]
    assert claim.main(command) == 0
    after = json.loads(out.with_suffix(".json").read_text())
    assert [(f["name"], f["seed"]) for f in after] == [("dense-s", 1), ("moe-s", 1), ("moe-s", 3)]
    assert after[0]["steps"] == 30 and after[2] == earlier[1]
    assert "* Measured on then: moe-s-3." in out.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("text", "code"), [(None, 66), ("{", 78), ("[3]", 78), ('[{"x": 1}]', 78)])
def test_figures_that_cannot_be_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, code: int
) -> None:
    known = tmp_path / "known.json"
    if text is not None:
        known.write_text(text)
    trainer(tmp_path / "dense-s-1").save()
    assert claim.main([str(tmp_path), "--data", str(DATA), "--known", str(known)]) == code
    assert str(known) in capsys.readouterr().err


def test_without_the_base_there_is_nothing_to_compare_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("moe-s-1", "dense-s-1-old"):
        trainer(tmp_path / name).save()
    assert claim.main([str(tmp_path), "--data", str(DATA)]) == 66
    assert "dense-s" in capsys.readouterr().err
