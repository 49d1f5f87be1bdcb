"""A package as it is written: manifest, units, files. Nothing here opens a program."""
