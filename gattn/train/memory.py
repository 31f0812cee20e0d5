"""Peak memory of training, measured in a process of its own per variant.

The child loads the data and the model, trains a tiny graph first (so that thread pools and libraries are
there), returns free memory to the system, and only then counts: the growth of its resident set over the
epochs that follow, at its highest. glibc is told to map every larger block by itself, so that the resident
set follows what is allocated.
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from gattn.terminal import UsageError
from gattn.train.config import Config

EPOCHS = 3
#: For glibc: blocks of at least this many bytes are mapped by themselves and returned when freed.
MAP_THRESHOLD = "65536"


def peak_memory(config: Config, variant: str, threads: int) -> dict[str, Any]:
    """``{"bytes", "method"}``: the extra memory that ``EPOCHS`` epochs of ``variant`` need at their peak."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": MAP_THRESHOLD}
    options = {**dataclasses.asdict(config), "compare": False, "layer": variant, "threads": threads}
    child = subprocess.run(
        [sys.executable, "-m", "gattn.train.memory"],
        input=json.dumps(options),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(f"measuring the memory of {variant} failed (status {child.returncode}): {last}")
    measured: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return measured


class PeakMeter:
    """The growth of this process's resident set from :meth:`start` on, at its highest."""

    _status, _reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def __init__(self) -> None:
        self._linux = self._status.exists() and os.access(self._reset, os.W_OK)
        self._before = 0

    @property
    def method(self) -> str:
        """How it is measured, for the report."""
        if self._linux:
            return "resident set: highest (VmHWM, reset first) minus before, child process per variant"
        return "resident set: growth of the process's maximum, child process per variant (a lower bound)"

    def start(self) -> None:
        """Count from here; memory that Python and the allocator only hold on to is returned first."""
        gc.collect()
        if self._linux:
            trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not
            if trim is not None:
                trim(0)
            self._reset.write_text("5")
        self._before = self._resident("VmRSS")

    def peak(self) -> int:
        """Bytes above :meth:`start`."""
        return max(0, self._resident("VmHWM") - self._before)

    def _resident(self, field: str) -> int:
        if self._linux:
            lines = self._status.read_text().splitlines()
            return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _measure(config: Config) -> dict[str, Any]:
    import torch

    from gattn.train.data import NodeData, load
    from gattn.train.trainer import Trainer

    torch.set_num_threads(config.threads)
    data = load(config)
    few = torch.arange(64)
    every = few >= 0
    ring = torch.stack([few, few.roll(1)])
    x = data.x[:1].expand(64, -1).clone()
    tiny = NodeData("ring", x, ring, few % data.num_classes, every, every, every)
    for _ in range(2):
        Trainer(config.layer, config, tiny, seed=0).step()
    trainer = Trainer(config.layer, config, data, config.seed)
    meter = PeakMeter()
    meter.start()
    for _ in range(EPOCHS):
        trainer.step()
    return {"bytes": meter.peak(), "method": meter.method}


if __name__ == "__main__":
    print(json.dumps(_measure(Config(**json.load(sys.stdin)))))
