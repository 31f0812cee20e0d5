"""Worker processes that do not outlive the run they belong to."""

from __future__ import annotations

import os
import threading
from multiprocessing import parent_process


def end_with_parent() -> None:
    """Ends this process, started by :mod:`multiprocessing`, as soon as its parent has ended, even if that was killed.

    The initializer of process pools: their workers would go on with what is queued, and then wait for ever.
    """
    parent = parent_process()
    if parent is None:
        raise RuntimeError("Expected a process started by multiprocessing (got a main process).")

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
