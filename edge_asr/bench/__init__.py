"""Speed, latency, memory and accuracy of a package on this machine."""
