"""What a WeNet user runs today: WeNet's own model, quantize_dynamic, TorchScript.

``export`` does what WeNet's ``wenet/bin/export_jit.py`` does, with WeNet's source from a checkout:

    git clone https://github.com/wenet-e2e/wenet
    python -m benchmark.paper.wenet_today export CHECKPOINT final_quant.zip --wenet wenet

``serve`` loads such a file as WeNet's runtime does and measures what it is asked for (see
``benchmark.paper.lines``). It needs torch only.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.machinery
import json
import os
import sys
import time
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import Tensor

from benchmark.paper.lines import Answer, Handler, Request, serve, timed
from benchmark.paper.workload import (
    CHUNK_FRAMES,
    LEFT_FRAMES,
    REVERSE_WEIGHT,
    SECOND_FEATURES,
    SOS,
    WHOLE_FEATURES,
    chunks,
    features,
    hypotheses,
    input_frames,
)
from edge_asr.errors import InputMissingError
from edge_asr.exits import errors_as_lines
from edge_asr.machine import peak_memory_bytes

# What WeNet imports on the way to its model, and its model does not use.
_STUBS = ("langid", "librosa", "tensorboardX", "torchaudio", "whisper")
SOURCE = "https://github.com/wenet-e2e/wenet"
_OFFSET = 640  # a stream in its middle; WeNet's table of positions ends at 5000


def export(checkpoint: Path, wenet: Path, out: Path, engine: str) -> dict[str, Any]:
    """Quantize and script a checkpoint with WeNet's classes; what it took.

    Raises:
        InputMissingError: ``wenet`` is no checkout of WeNet.
    """
    import yaml

    if not (wenet / "wenet" / "utils" / "init_model.py").is_file():
        raise InputMissingError(f"{wenet}: no checkout of WeNet; run: git clone {SOURCE}")
    torch.backends.quantized.engine = engine
    tree = yaml.safe_load((checkpoint / "train.yaml").read_text(encoding="utf-8"))
    tree["cmvn_conf"]["cmvn_file"] = str(checkpoint / "global_cmvn")
    began = time.perf_counter()
    with _importable(wenet):
        init_model = importlib.import_module("wenet.utils.init_model").init_model
        options = argparse.Namespace(checkpoint=str(checkpoint / "final.pt"), jit=True)
        model, _ = init_model(options, tree)
    model.eval()
    quantized = torch.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    scripted = torch.jit.script(quantized)
    part = out.with_name(out.name + ".part")
    scripted.save(str(part))
    part.rename(out)
    return {
        "export_s": time.perf_counter() - began,
        "export_peak_bytes": peak_memory_bytes(),
        "engine": engine,
    }


@contextlib.contextmanager
def _importable(wenet: Path) -> Iterator[None]:
    """Make WeNet importable: its checkout, stand-ins for absent libraries, and two names that it
    takes from a module of torch that no longer has them."""
    convolutions = importlib.import_module("torch.nn.modules.conv")
    for name in ("Union", "Optional"):
        if not hasattr(convolutions, name):
            setattr(convolutions, name, getattr(typing, name))
    finder = _StubFinder()
    sys.path.insert(0, str(wenet))
    sys.meta_path.append(finder)  # last: what is installed is taken
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        sys.path.remove(str(wenet))


class _Stub(types.ModuleType):
    """A module that has every name; WeNet calls some of them while it is imported."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock(name=name)


class _StubFinder:
    """Finds stand-ins for the libraries of ``_STUBS`` and everything below them."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        if name.partition(".")[0] not in _STUBS:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: Any) -> types.ModuleType:
        stub = _Stub(spec.name)
        stub.__path__ = []  # a package, so that modules of it are looked for
        return stub

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""


def load(path: Path, threads: int) -> tuple[Answer, Mapping[str, Handler]]:
    """Load a scripted model; what loading took, and the tasks that it does."""
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    before = peak_memory_bytes()
    began = time.perf_counter()
    model = torch.jit.load(str(path))
    model.eval()
    load_s = time.perf_counter() - began
    played = WenetPlayer(model)
    loaded = {
        "load_s": load_s,
        "memory_before_bytes": before,
        "memory_loaded_bytes": peak_memory_bytes(),
        "engine": torch.backends.quantized.engine,
        "torch": torch.__version__,
    }
    return loaded, played.handlers()


class WenetPlayer:
    """The tasks of the benchmark, on a scripted WeNet model."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._caches: dict[int, tuple[Tensor, Tensor]] = {}
        self._chunks: dict[int, Iterator[Tensor]] = {}
        self._memory: Tensor | None = None
        self._warm: set[str] = set()

    def handlers(self) -> dict[str, Handler]:
        """Task to function."""
        tasks: dict[str, Callable[[Request], Answer]] = {
            "stream": self.stream,
            "whole": self.whole,
            "second": self.second,
            "memory": lambda request: {"peak_bytes": peak_memory_bytes()},
            "probe": self.probe,
        }
        return {
            name: torch.inference_mode()(task)  # type: ignore[no-untyped-call]
            for name, task in tasks.items()
        }

    def stream(self, request: Request) -> Answer:
        """Seconds of each of ``count`` chunks of ``chunk`` encoder frames, caches full."""
        chunk, count = request.get("chunk", CHUNK_FRAMES), request["count"]
        if chunk not in self._caches:
            self._chunks[chunk] = map(torch.from_numpy, chunks(chunk))
            empty = torch.zeros(0, 0, 0, 0), torch.zeros(0, 0, 0, 0)
            self._caches[chunk] = empty
            offset = 0
            while self._caches[chunk][0].size(2) < LEFT_FRAMES:
                self._chunk(chunk, offset)
                offset += chunk
        return self._timed(f"chunk {chunk}", lambda: self._chunk(chunk, _OFFSET), count)

    def _chunk(self, chunk: int, offset: int) -> Tensor:
        out, attention, convolution = self._model.forward_encoder_chunk(
            next(self._chunks[chunk]), offset, LEFT_FRAMES, *self._caches[chunk]
        )
        self._caches[chunk] = attention, convolution
        log_probs: Tensor = self._model.ctc_activation(out)
        return log_probs

    def whole(self, request: Request) -> Answer:
        """Seconds of each of ``count`` whole utterances in one call."""
        feats = torch.from_numpy(features(WHOLE_FEATURES))
        return self._timed("whole", lambda: self._whole(feats), request["count"])

    def _whole(self, feats: Tensor) -> Tensor:
        out: Tensor = self._model.forward_encoder_chunk(feats, 0, 0)[0]
        self._model.ctc_activation(out)
        return out

    def second(self, request: Request) -> Answer:
        """Seconds of each of ``count`` second passes, both decoders."""
        if self._memory is None:
            self._memory = self._whole(torch.from_numpy(features(SECOND_FEATURES)))
        vocab_size = self._model.ctc_activation(self._memory[:, :1]).size(-1)
        units = torch.from_numpy(hypotheses(vocab_size))
        tokens = torch.cat([torch.full((len(units), 1), SOS), units], dim=1)
        lengths = torch.full((len(units),), tokens.size(1))

        def rescore() -> None:
            self._model.forward_attention_decoder(tokens, lengths, self._memory, REVERSE_WEIGHT)

        return self._timed("second", rescore, request["count"])

    def _timed(self, what: str, run: Callable[[], object], count: int) -> Answer:
        """Times of ``count`` runs; the first two ever, in which TorchScript compiles, are not."""
        if what not in self._warm:
            timed(run, 2)
            self._warm.add(what)
        return {"times_s": timed(run, count)}

    def probe(self, request: Request) -> Answer:
        """log_probs (T', V) of the first chunk, for a comparison of what is computed."""
        feats = torch.from_numpy(features(input_frames(CHUNK_FRAMES)))
        out = self._model.forward_encoder_chunk(feats, 0, LEFT_FRAMES)[0]
        return {"log_probs": self._model.ctc_activation(out)[0].tolist()}


@errors_as_lines("benchmark.paper.wenet_today")
def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.paper.wenet_today")
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("export", help="make the file that WeNet's runtime loads")
    making.add_argument("checkpoint", type=Path)
    making.add_argument("out", type=Path)
    making.add_argument("--wenet", type=Path, required=True, help="a checkout of WeNet")
    making.add_argument("--engine", default=torch.backends.quantized.engine)
    serving = commands.add_parser("serve", help="measure what standard input asks for")
    serving.add_argument("file", type=Path)
    serving.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    if options.command == "serve":
        return serve(lambda: load(options.file, options.threads))
    figures = export(options.checkpoint, options.wenet, options.out, options.engine)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    raise SystemExit(main())
