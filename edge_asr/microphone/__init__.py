"""Audio from a device, captured by a process of its own. Imports no numpy: the capture process
starts often."""
