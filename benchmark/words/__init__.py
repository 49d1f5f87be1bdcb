"""What is measured in words: errors, times, steadiness."""
