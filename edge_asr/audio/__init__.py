"""Audio in: files and blocks to one channel, features, and windows of the encoder's size."""
