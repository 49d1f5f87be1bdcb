"""Seconds and memory of edge_asr alone; ``paper`` compares with WeNet."""
