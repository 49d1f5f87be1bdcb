"""Native code: the expert kernels and ExecuTorch without torch; both are optional."""
