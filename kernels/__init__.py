"""Triton kernels, one file a score; installed as ``gattn.kernels``."""
