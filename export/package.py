"""Checkpoint in, verified package out: the one exporter."""

from __future__ import annotations

import io
import json
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from edge_asr.audio.features import FbankState, flush_samples, push_samples
from edge_asr.backends import open_decoder, open_encoder
from edge_asr.errors import ConfigError, OutputError
from edge_asr.package.files import Package
from edge_asr.package.manifest import (
    SCHEMA_VERSION,
    BackendName,
    DecoderSpec,
    Dispatch,
    EncoderSpec,
    FeatureSpec,
    Manifest,
    Precision,
    Provenance,
    Role,
    UnitsSpec,
    decode_manifest,
    encode_manifest,
)
from edge_asr.package.units import Units
from edge_asr.package.writer import write_package
from edge_asr.programs.golden_decoder import GOLDEN_DECODER
from export.addition import (
    CARD,
    card_is_generated,
    join_files,
    join_manifests,
    join_parity,
    join_programs,
    open_base,
)
from export.build import Built, build_programs, check_dispatches, check_native
from export.card import model_card
from export.eager import EagerDecoder, EagerEncoder
from export.lowerings import LOWERINGS
from export.program import (
    DecoderProgram,
    EncoderProgram,
    decoder_interface,
    decoder_spec,
    encoder_interface,
    encoder_spec,
)
from export.speech import MIN_STEPS, Speech, load_speech
from export.verify import (
    Parity,
    certificate,
    cut,
    greedy_text,
    reference,
    stream_log_probs,
    verify_program,
    verify_streaming,
)
from export.verify_decoder import (
    DECODER_BOUNDS,
    DecoderParity,
    Segment,
    decoder_reference,
    verify_decoder,
)
from quant.checkpoint import QuantizedCheckpoint, load_at

QUANTIZATION = {
    "fp32": "none",
    "int8": (
        "weights int8 per output channel, activations int8 per row with a zero point, "
        "router float32"
    ),
    "int4": "as int8, and the experts' weights int4 in groups of {group} with a bfloat16 scale",
}
GOLDEN_SECONDS = 4.0


@dataclass(frozen=True)
class ExportConfig:
    """What the command line asks for."""

    checkpoint: Path
    out: Path
    name: str
    roles: tuple[Role, ...]
    precisions: tuple[Precision, ...]
    backends: tuple[BackendName, ...]
    dispatches: tuple[Dispatch, ...]
    left_context: int
    default_chunk: int
    max_chunk: int
    language: str
    license: str
    speech: Path
    metrics: dict[str, float]
    card: str | None
    replace: bool
    group: int | None = None  # of int4 weights; None for the usual one
    add: bool = False  # to the package that ``out`` is
    ctc_weight: float | None = None  # of the second pass; None is that of the training
    reverse_weight: float | None = None


def export_package(conf: ExportConfig, say: Callable[[str], None]) -> None:
    """Quantize, lower, verify, write.

    Raises:
        EdgeAsrError: the checkpoint cannot be read, a program does not equal the network
            (ParityError), or the package cannot be written. Nothing is half-written.
    """
    base = _open_base(conf)
    if base is not None:
        conf = replace(conf, name=base.manifest.name)
    check_dispatches(conf.precisions, conf.dispatches)
    check_native(conf.backends, conf.dispatches)
    torch.set_num_threads(1)  # the reference must not depend on the number of cores
    quantized_checkpoints = load_at(conf.checkpoint, conf.precisions, conf.group)
    first = quantized_checkpoints[0]
    features = first.described.features
    spec = encoder_spec(first.network, conf.left_context, conf.default_chunk, conf.max_chunk)
    second_pass = _second_pass(conf, first, say)
    manifest = _manifest(conf, quantized_checkpoints, spec, second_pass)
    units_text = (conf.checkpoint / "units.txt").read_bytes()
    units = Units.parse(units_text, str(conf.checkpoint / "units.txt"))
    if base is not None:
        manifest = join_manifests(base, manifest, units_text)
    steps = max(MIN_STEPS, 2 * conf.left_context // conf.default_chunk + 1)
    speech = load_speech(conf.speech, features, spec.input_frames(steps * conf.default_chunk))

    built: list[Built] = []
    parities: dict[str, Parity | DecoderParity] = {}
    streaming: dict[str, float] = {}
    golden: dict[str, npt.NDArray[np.generic]] = {"samples": _golden_samples(speech, features)}
    # A package that is added to has hypotheses already, which more precisions score too.
    scored = base is not None and base.lists(GOLDEN_DECODER)
    golden_decoder = base.golden(GOLDEN_DECODER) if base is not None and scored else {}
    with_encoders = "encoder" in conf.roles
    if with_encoders and first.float_network is not None:
        streaming["fp32"] = verify_streaming(first.float_network, speech, spec, "fp32")
    for quantized in quantized_checkpoints:
        precision = quantized.precision
        if with_encoders:
            if precision not in streaming:
                streaming[precision] = verify_streaming(quantized.network, speech, spec, precision)
            say(f"{precision}: streaming equals offline to {streaming[precision]:.1e}")
            _add_golden(golden, quantized, spec, units)
            for one, parity in _encoders(conf, quantized, spec, units, speech):
                built.append(one)
                parities[one.program.file] = parity
                say(f"{_figures(one, parity)}, {parity.equal_texts} of {parity.texts} texts equal")
        if second_pass is not None:
            for one, found in _decoders(conf, quantized, spec, second_pass, speech, golden_decoder):
                built.append(one)
                parities[one.program.file] = found
                say(
                    f"{_figures(one, found)}, {found.equal_choices} of {found.choices} "
                    "choices equal"
                )

    parity_json = certificate(parities, streaming, speech)
    if second_pass is not None:
        bounds = {precision: asdict(bounds) for precision, bounds in DECODER_BOUNDS.items()}
        parity_json["decoder_bounds"] = bounds
    programs = [one.program for one in built]
    weights = {one.program.weights: one.weights for one in built if one.weights is not None}
    files = {name: data for name, data in weights.items() if name is not None}
    if base is None:
        files |= {"units.txt": units_text, "golden.npz": _npz(golden)}
    else:
        programs, files = join_programs(base, programs), join_files(base, files)
        parity_json = join_parity(base, parity_json)
    if golden_decoder:
        files[GOLDEN_DECODER] = _npz(golden_decoder)
    files["parity.json"] = (json.dumps(parity_json, indent=1) + "\n").encode()
    if conf.card or base is None or card_is_generated(base):
        files[CARD] = (conf.card or model_card(manifest, parity_json)).encode()
    write_package(conf.out, manifest, programs, files, replace=conf.replace or conf.add)


def _open_base(conf: ExportConfig) -> Package | None:
    """The package to add to, if any. What ``write_package`` would refuse is refused now, minutes
    before."""
    if conf.add:
        return open_base(conf.out, conf.roles, conf.precisions, conf.backends, conf.dispatches)
    if conf.out.exists() and not conf.replace:
        raise OutputError(f"{conf.out} exists; give another --out, --replace it, or --add to it")
    return None


def _second_pass(
    conf: ExportConfig, source: QuantizedCheckpoint, say: Callable[[str], None]
) -> DecoderSpec | None:
    """The interface of the decoder programs, None where there will be none."""
    if "decoder" not in conf.roles:
        return None
    if source.described.conf.ctc_weight == 1.0:
        reason = "no decoder: with a ctc_weight of 1 it was not trained"
        if conf.add:
            raise ConfigError(f"{conf.checkpoint}: {reason}; there is nothing to add")
        say(reason)
        return None
    spec = decoder_spec(source.network)
    chosen = {"ctc_weight": conf.ctc_weight, "reverse_weight": conf.reverse_weight}
    given = {name: weight for name, weight in chosen.items() if weight is not None}
    return msgspec.structs.replace(spec, **given)


def _encoders(
    conf: ExportConfig,
    quantized: QuantizedCheckpoint,
    spec: EncoderSpec,
    units: Units,
    speech: Speech,
) -> Iterator[tuple[Built, Parity]]:
    """The encoder of one precision for every backend, verified."""
    network, precision = quantized.network, quantized.precision
    expected = reference(network, speech, spec)
    interface = encoder_interface(network, spec)
    for one in build_programs(
        EncoderProgram(network), interface, precision, conf.backends, conf.dispatches
    ):
        backend = one.program.backend
        encoder = open_encoder(backend, one.program.data, spec)
        blank = quantized.described.conf.blank
        yield (
            one,
            verify_program(encoder, expected, spec, units, blank, (backend, precision)),
        )


def _decoders(
    conf: ExportConfig,
    quantized: QuantizedCheckpoint,
    encoder: EncoderSpec,
    spec: DecoderSpec,
    speech: Speech,
    golden: dict[str, npt.NDArray[np.generic]],
) -> Iterator[tuple[Built, DecoderParity]]:
    """The decoder of one precision for every backend, verified; ``golden`` gets its vector."""
    network, precision = quantized.network, quantized.precision
    expected = decoder_reference(network, speech, encoder, spec)
    _add_decoder_golden(golden, quantized, expected.golden)
    interface = decoder_interface(network, spec)
    for one in build_programs(
        DecoderProgram(network), interface, precision, conf.backends, conf.dispatches
    ):
        backend = one.program.backend
        decoder = open_decoder(backend, one.program.data, spec)
        yield one, verify_decoder(decoder, expected, spec, (backend, precision))


def _figures(built: Built, parity: Parity | DecoderParity) -> str:
    size = len(built.program.data) + len(built.weights or b"")
    return (
        f"{built.program.file}: {size / 1e6:.1f} MB, max error {parity.max_abs:.1e}, "
        f"mean {parity.mean_abs:.1e}"
    )


def _golden_samples(speech: Speech, features: FeatureSpec) -> npt.NDArray[np.float32]:
    """A few seconds of the clips, as they follow one another."""
    samples = np.concatenate(speech.clips)
    return samples[: round(GOLDEN_SECONDS * features.sample_rate)]


def _add_golden(
    golden: dict[str, npt.NDArray[np.generic]],
    quantized: QuantizedCheckpoint,
    spec: EncoderSpec,
    units: Units,
) -> None:
    """What the eager network of this precision says to the golden samples."""
    samples, state = golden["samples"].astype(np.float32), FbankState()
    features = quantized.described.features
    frames = np.concatenate(
        [push_samples(samples, state, features), flush_samples(state, features)]
    )
    steps = cut(frames, spec, spec.default_chunk)
    log_probs = stream_log_probs(EagerEncoder(quantized.network), steps, spec)
    golden[f"log_probs_{quantized.precision}"] = log_probs
    text = greedy_text(log_probs, units, quantized.network.conf.blank)
    golden[f"text_{quantized.precision}"] = np.array(text)


def _add_decoder_golden(
    golden: dict[str, npt.NDArray[np.generic]], quantized: QuantizedCheckpoint, segment: Segment
) -> None:
    """What the eager decoders of this precision say. All precisions score the hypotheses of the
    first one over what its encoder heard."""
    if not golden:
        golden["hyps"], golden["hyp_lengths"] = segment.hyps, segment.hyp_lengths
        golden["encoder_out"] = segment.encoder_out
    hyps, lengths = golden["hyps"].astype(np.int64), golden["hyp_lengths"].astype(np.int64)
    memory = golden["encoder_out"].astype(np.float32)
    scores = EagerDecoder(quantized.network).score(hyps, lengths, memory)
    golden[f"left_{quantized.precision}"] = scores.left
    golden[f"right_{quantized.precision}"] = scores.right


def _manifest(
    conf: ExportConfig,
    quantized: Sequence[QuantizedCheckpoint],
    spec: EncoderSpec,
    second_pass: DecoderSpec | None,
) -> Manifest:
    """The manifest without its programs and files; PackageError if it cannot be one."""
    source = quantized[0]
    network = source.described.conf
    rounding = [
        f"{q.precision}: {QUANTIZATION[q.precision]}".format(group=q.group) for q in quantized
    ]
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name=conf.name,
        language=conf.language,
        license=conf.license,
        features=source.described.features,
        encoder=spec,
        units=UnitsSpec(blank=network.blank, sos=network.sos, eos=network.eos),
        programs=(),
        files=(),
        provenance=Provenance(
            checkpoint_sha256=source.source_sha256,
            created=datetime.now(UTC).strftime("%Y-%m-%d"),
            quantization="; ".join(rounding),
            versions=_versions(conf.backends),
            decoder_sha256=source.decoder_sha256,
        ),
        metrics=conf.metrics,
        decoder=second_pass,
    )
    # Reading is where a manifest is checked; a bad name should not cost an export first.
    return decode_manifest(encode_manifest(manifest), str(conf.out))


def _versions(backends: Sequence[BackendName]) -> dict[str, str]:
    libraries = [name for backend in backends for name in LOWERINGS[backend].libraries]
    names = ["torch", "numpy", *libraries]
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def _npz(arrays: dict[str, npt.NDArray[np.generic]]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)  # type: ignore[arg-type]
    return file.getvalue()
