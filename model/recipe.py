"""The ``train`` section of a recipe, read strictly. The rest of a recipe is WeNet's train.yaml."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import msgspec

from edge_asr.errors import ConfigError
from model.config import read_yaml

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


@dataclass(frozen=True)
class TrainConfig:
    """The ``train`` section of a recipe."""

    train: list[str]
    dev: list[str]
    noise: list[str]
    speeds: list[Annotated[float, msgspec.Meta(gt=0)]]
    min_word_count: int  # rarer words are spelled in letters
    steps: int
    warmup_steps: int
    peak_lr: float
    frames_per_batch: int
    chunk_choices: list[int]
    left_context_choices: list[int]
    easy_epochs: int  # at first: single utterances, no augmentation, no chunks
    max_joined: int
    max_joined_frames: int
    noise_only: Share  # of a batch's items: noise, and nothing said
    dropout: Share
    ema: Share  # of the old weights in the moving average
    seed: Annotated[int, msgspec.Meta(ge=0, lt=1 << 20)]
    eval_every: int
    save_every_s: float
    weight_decay: float = 0.01
    grad_clip: float = 5.0
    bf16: bool = True  # where the processor multiplies it
    # Beginning from another model's encoder, of which a part may stay as it is:
    init: str = ""  # a folder with a checkpoint, beside the one that is trained
    init_units: bool = False  # with its units, in place of new ones; needs ``pieces``
    frozen: tuple[str, ...] = ()  # of names of parameters that are not trained; * is anything
    # More to train on than ``train``:
    synthetic: tuple[str, ...] = ()  # lists of synthetic voices, read at one speed
    synthetic_share: Share = 1.0  # of them in an epoch, another one in each
    closed: tuple[str, ...] = ()  # lists of which the utterances of known words alone count
    pieces: Annotated[int, msgspec.Meta(ge=0)] = 0  # units: so many pieces of words (0: see above)
    room: Share = 0.0  # of the versions of a recording: heard in a room that echoes
    telephone: Share = 0.0  # of them: heard over a telephone
    augmented: Share = 1.0  # of the items: augmented (model.augment)
    dropout_rises: bool = False  # from none at first to all of it at last
    # This part of the loss: CTC of the middle block's output (arXiv 2102.03216).
    middle_ctc: Share = 0.0
    # Terms on the routers (model.routing), which the paper does without:
    balance_weight: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    chunk_weight: Annotated[float, msgspec.Meta(ge=0)] = 0.0  # for few experts per chunk of 16
    # Of model.train_decoder alone:
    passes: Annotated[int, msgspec.Meta(ge=0)] = 0  # of the encoder through the training data
    unit_noise: Share = 0.0  # of the units that decoders read: replaced by random ones
    choice_steps: Annotated[int, msgspec.Meta(ge=0)] = 0  # at the end: model.choice is learned too
    choice_weight: Annotated[float, msgspec.Meta(ge=0)] = 0.0  # of its loss, beside the attention's


def read_recipe(path: Path) -> dict[str, Any]:
    """The tree of a recipe. One that names another with ``like`` (a path beside it) is that one
    with its own keys put over it, section by section.

    Raises:
        ConfigError: a file that cannot be read, or recipes that are like each other in a circle.
    """
    tree, seen = read_yaml(path), [path.resolve()]
    while "like" in tree:
        path = path.parent / str(tree.pop("like"))
        if path.resolve() in seen:
            raise ConfigError(f"{path}: is like itself in the end; take one 'like' out")
        seen.append(path.resolve())
        tree = _over(read_yaml(path), tree)
    return tree


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        known = merged.get(name)
        if isinstance(known, dict) and isinstance(value, dict):
            value = _over(known, value)
        merged[name] = value
    return merged


def train_config(tree: dict[str, Any], where: str) -> TrainConfig:
    """Read the ``train`` section.

    Raises:
        ConfigError: an unknown or missing key, a wrong type, or a number out of its range.
    """
    section = tree.get("train")
    if not isinstance(section, dict):
        raise ConfigError(f"{where}: a section 'train' is expected; see model/recipes")
    known = [field.name for field in fields(TrainConfig)]
    unknown = sorted(set(map(str, section)) - set(known))
    if unknown:
        raise ConfigError(f"{where}: train.{unknown[0]} is unknown; known: {', '.join(known)}")
    required = [field.name for field in fields(TrainConfig) if field.default is MISSING]
    missing = [name for name in required if name not in section]
    if missing:
        raise ConfigError(f"{where}: train.{missing[0]} is missing; see model/recipes")
    try:
        conf = msgspec.convert(section, TrainConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: train: {error}") from error
    for name in ("train", "speeds", "chunk_choices", "left_context_choices"):
        if not getattr(conf, name):
            raise ConfigError(f"{where}: train.{name} is empty; list at least one")
    for name in ("steps", "warmup_steps", "frames_per_batch", "max_joined", "eval_every"):
        if getattr(conf, name) < 1:
            raise ConfigError(f"{where}: train.{name} is {getattr(conf, name)}; at least 1")
    return conf
