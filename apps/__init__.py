"""Programs built on the public API of ``edge_asr``."""
