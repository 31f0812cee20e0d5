"""The epochs of one run: progress, checkpoints, and going on from one with the same arithmetic."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from gattn.studies.folder import StudyFolder
from gattn.studies.plan import Run
from gattn.terminal import Progress
from gattn.train.experiment import CHECKPOINT_SECONDS, Interrupted
from gattn.train.interrupt import Interrupt


class Loop:
    """Counts a run's epochs, shows and saves where it stands, and ends it on a signal.

    A run that goes on from its checkpoint gives the results that it would have given at once, with the same versions
    and threads: parameters, optimiser, torch's random stream and the study's own ``record`` continue as they were.

    Attributes:
        epoch: Epochs done.
        text: A word on how the run stands, for the progress.
    """

    def __init__(
        self,
        run: Run,
        folder: StudyFolder,
        progress: Progress,
        interrupt: Interrupt,
        checkpoint: dict[str, Any] | None = None,
    ) -> None:
        self.run, self._folder, self._progress, self._interrupt = run, folder, progress, interrupt
        self._checkpoint = checkpoint
        self._seconds: list[float] = []
        self.epoch, self.text = 0, ""

    @property
    def ms_per_epoch(self) -> float:
        """The median of the epochs done, since what else a machine does in hours must not count; 0 without epochs."""
        return statistics.median(self._seconds) * 1e3 if self._seconds else 0.0

    def epochs(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        record: dict[str, Any],
        schedule: ReduceLROnPlateau | None = None,
    ) -> Iterator[int]:
        """The numbers of the epochs to do, in order.

        Args:
            model: Made as for a new run; a checkpoint's parameters replace its own.
            optimizer: Of the model.
            record: What the study keeps of the run from epoch to epoch, plain numbers and lists; a checkpoint's
                replace what is there.
            schedule: Of the optimiser's learning rate.

        Raises:
            Interrupted: A signal came; the checkpoint is on disk.
        """
        if self._checkpoint is not None:
            self._restore(self._checkpoint, model, optimizer, record, schedule)
        saved = time.monotonic()
        while self.epoch < self.run.epochs:
            started = time.perf_counter()
            yield self.epoch
            self._seconds.append(time.perf_counter() - started)
            self.epoch += 1
            self._progress.advance(f"{self.run.name}: {self.text}", self.run.epoch_cost)
            stop = self._interrupt.signal
            if stop is not None or time.monotonic() - saved > CHECKPOINT_SECONDS:
                self._save(model, optimizer, record, schedule)
                saved = time.monotonic()
            if stop is not None:
                raise Interrupted(stop)

    def finish(self) -> None:
        """Counts the epochs that were not needed."""
        if self.epoch < self.run.epochs:
            self._progress.advance(f"{self.run.name}: done", (self.run.epochs - self.epoch) * self.run.epoch_cost)

    def _save(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        record: dict[str, Any],
        schedule: ReduceLROnPlateau | None,
    ) -> None:
        self._folder.save(
            {
                "key": self.run.key,
                "epoch": self.epoch,
                "seconds": self._seconds,
                "record": record,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule and schedule.state_dict(),
                "random": torch.get_rng_state(),
            }
        )

    def _restore(
        self,
        state: dict[str, Any],
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        record: dict[str, Any],
        schedule: ReduceLROnPlateau | None,
    ) -> None:
        self.epoch, self._seconds = state["epoch"], state["seconds"]
        record.update(state["record"])
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if schedule is not None:
            schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["random"])
