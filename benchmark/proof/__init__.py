"""Which bugs do the exporter, ``verify`` and ``load`` find? Mutants of a package tell."""
