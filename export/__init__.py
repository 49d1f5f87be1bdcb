"""Lower a quantized checkpoint to each backend, verify it, write the package."""
