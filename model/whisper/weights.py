"""Tensors of a Whisper model in CTranslate2's binary file.

The layout (CTranslate2, version 6 of its format): a version, the name and revision of the
specification, then variables: name, shape, type, bytes. Integer weights have their scale in a
variable of their own, ``NAME_scale``, one number or one for each row, to divide by.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge_asr.errors import ConfigError, InputMissingError

VERSION = 6
_DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def read_weights(path: Path) -> dict[str, Tensor]:
    """Every variable as a float32 tensor, integers multiplied out, by name.

    Raises:
        InputMissingError: no such file. ConfigError: not such a file, or a damaged one.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputMissingError(f"{path}: {error.strerror}; give model.bin of a model") from error
    try:
        arrays = _Reader(data).variables()
    except (struct.error, ValueError, KeyError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a model of CTranslate2, or damaged ({error})") from error
    tensors = {}
    for name, array in arrays.items():
        if name.endswith("_scale"):
            continue
        values = array.astype(np.float32)
        scale = arrays.get(f"{name}_scale")
        if scale is not None:
            values /= scale.reshape(-1, *[1] * (array.ndim - 1)) if scale.size > 1 else scale
        tensors[name] = torch.from_numpy(values.copy())
    return tensors


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def variables(self) -> dict[str, np.ndarray]:
        version = self._number("<I")
        if version != VERSION:
            raise ValueError(f"version {version}, {VERSION} is known")
        self._text(), self._number("<I")  # the specification's name and revision
        found = {}
        for _ in range(self._number("<I")):
            name = self._text()
            shape = [self._number("<I") for _ in range(self._number("<B"))]
            dtype, size = _DTYPES[self._number("<B")], self._number("<I")
            found[name] = np.frombuffer(self._take(size), dtype).reshape(shape)
        return found

    def _take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        if len(part) < size:
            raise ValueError(f"ends after {len(self._data)} bytes")
        self._at += size
        return part

    def _number(self, form: str) -> int:
        (value,) = struct.unpack(form, self._take(struct.calcsize(form)))
        return int(value)

    def _text(self) -> str:
        return self._take(self._number("<H")).rstrip(b"\0").decode()
