"""Triton kernels, one file a score; installed as ``gattn.kernels``."""

#: The oldest Triton that compiles them: 3.3 fails on tuples of arguments in which some are ``None``.
MIN_TRITON = (3, 4)


def require_triton(version: str) -> None:
    """Raises a RuntimeError if ``version`` of Triton is too old for the kernels."""
    if tuple(map(int, version.split(".")[:2])) < MIN_TRITON:
        oldest = ".".join(map(str, MIN_TRITON))
        raise RuntimeError(
            f"Expected Triton {oldest} or newer for backend 'triton' (got {version}). Install a newer one, which comes "
            f"with PyTorch 2.8 and newer, or choose another backend."
        )
