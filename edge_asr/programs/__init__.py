"""From the bytes of a package to programs that run and are proven."""
