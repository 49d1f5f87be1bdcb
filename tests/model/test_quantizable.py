"""Which layers of every kind of network become integers."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from model.quantizable import quantizable
from tests.model.networks import network


@pytest.mark.parametrize(
    ("encoder", "first"),
    [({}, "encoder.embed.conv.0"), ({"input_layer": "conv1d4"}, "encoder.embed.first")],
)
def test_what_stays_float(encoder: dict[str, Any], first: str) -> None:
    made = network(encoder)
    found = dict(quantizable(made))
    wide = {n for n, m in made.named_modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)}
    rest = wide - set(found)
    assert first in rest
    assert rest - {first} == {name for name in wide if name.endswith((".gate", ".depthwise_conv"))}
    assert any(".experts." in name for name in found)
