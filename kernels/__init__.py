"""Triton kernels, one file a score; installed as ``gattn.kernels``."""

#: The oldest Triton that compiles them: 3.3 fails on tuples of arguments in which some are ``None``.
MIN_TRITON = (3, 4)


#: The oldest whose ``tl.dot`` takes float64, which attention over all pairs needs.
MIN_TRITON_DOUBLE = (3, 5)


def require_triton(version: str, oldest: tuple[int, int] = MIN_TRITON, what: str = "backend 'triton'") -> None:
    """Raises a RuntimeError if ``version`` of Triton is too old."""
    if tuple(map(int, version.split(".")[:2])) < oldest:
        raise RuntimeError(
            f"Expected Triton {'.'.join(map(str, oldest))} or newer for {what} (got {version}). Install a newer one, "
            f"which comes with PyTorch 2.8 and newer, or choose another backend."
        )
