"""``make bench-paper``: models of the paper's sizes, WeNet's, and the limits of the machine."""
