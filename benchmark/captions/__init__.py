"""What a reader of captions sees: when words come, how steady they are, where text is cut."""
