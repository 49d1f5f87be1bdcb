"""The tiny models of the benchmark."""

from __future__ import annotations

from benchmark.paper.models import SCALES, Size, config_tree
from model.config import NetworkConfig, network_config

TINY = {size.name: size for size in SCALES["tiny"]}
MOE = TINY["moe-1b"]
DENSE = TINY["dense-225m"]


def conf(size: Size) -> NetworkConfig:
    """Its configuration."""
    return network_config(config_tree(size), size.name)
