"""What the parts of the search are worth, and what they cost."""
