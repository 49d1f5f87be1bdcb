"""``make claim``: mixtures of experts against dense models, trained the same way."""
