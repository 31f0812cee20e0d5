"""NVIDIA's compute-sanitizer over the small calls; run as a program, this module makes them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from gattn.bench.gpu.task import Context, Result, Step, Task, green, red, skipped

TOOLS = ("memcheck", "racecheck")
#: At the most, for a step under the sanitizer takes seconds.
SECONDS = 60


def find() -> str | None:
    """The program, in PATH or in the CUDA toolkit."""
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    return shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path=str(Path(home, "bin")))


def _check(tool: str, backend: str, context: Context) -> Result:
    program = find()
    if program is None:
        return skipped("compute-sanitizer is not installed")
    command = [program, "--tool", tool, "--error-exitcode", "17", sys.executable, "-m", __name__, backend]
    # Tensors share no allocation then, so that an access beyond one is seen.
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=min(SECONDS, context.left())
        )
    except subprocess.TimeoutExpired:
        return skipped(f"not done in {SECONDS} s")
    if done.returncode == 0:
        return green()
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("=========")]
    if done.returncode == 17:
        return red(" ".join(lines[1:4]) or "errors found")
    return skipped(f"compute-sanitizer cannot run here: {' '.join(lines[:2]) or done.stderr[-200:]}")


def tasks(context: Context) -> Iterator[Task]:
    """A task a backend and tool."""
    for backend in context.backends:
        for tool in TOOLS:
            key = f"sanitizer/{backend}/{tool}"
            yield Task(key, lambda t=tool, b=backend: _check(t, b, context), needs_gpu=True)


def main(backend: str) -> None:
    """Every layer's op plain and with all modifiers, once."""
    from gattn.bench.gpu import small

    for name in small.names(backend):
        small.call(name, torch.device("cuda"), backend).run()
    torch.cuda.synchronize()


STEP = Step("sanitizer", "compute-sanitizer", tasks)

if __name__ == "__main__":
    main(sys.argv[1])
