"""Word errors of whole test sets, and the clips that they are counted on."""
