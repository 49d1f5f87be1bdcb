"""A package as it is written: manifest, units, files. Nothing here opens a program."""

DEFAULT_PACKAGE = "commands-en"  # of the packages that come with edge_asr
