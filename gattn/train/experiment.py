"""Train every variant from every seed, side by side, resumable at any epoch."""

from __future__ import annotations

import time

from gattn.terminal import Progress
from gattn.train.config import Config
from gattn.train.data import NodeData
from gattn.train.folder import RunFolder
from gattn.train.interrupt import Interrupt
from gattn.train.trainer import Record, Trainer

#: Seconds between checkpoints; an interrupt writes one at once.
CHECKPOINT_SECONDS = 10.0


class Interrupted(Exception):
    """A signal ended the run early; its checkpoint is on disk."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


def train(config: Config, data: NodeData, folder: RunFolder) -> None:
    """Run all seeds to the end, from the checkpoint if there is one, or raise :class:`Interrupted`.

    The variants of a seed take turns, one epoch each, the order swapped every time: whatever slows the
    machine down for a while slows them alike, so that their times can be compared.
    """
    state = folder.load()
    first = config.seed if state is None else state["seed"]
    total = config.runs * len(config.variants) * config.epochs
    done = (first - config.seed) * len(config.variants) * config.epochs
    if state is not None:
        done += sum(trainer["epoch"] for trainer in state["trainers"])
    with Interrupt() as interrupt, Progress(total, "epoch", done) as progress:
        for seed in range(first, config.seed + config.runs):
            trainers = [Trainer(variant, config, data, seed) for variant in config.variants]
            if state is not None:
                for trainer, saved in zip(trainers, state["trainers"], strict=True):
                    trainer.load(saved)
                state = None
            _train_seed(trainers, folder, progress, interrupt)
            for trainer in trainers:
                folder.save_model(f"{trainer.variant}-seed{seed}", trainer.best_model)


def _train_seed(trainers: list[Trainer], folder: RunFolder, progress: Progress, interrupt: Interrupt) -> None:
    saved = time.monotonic()
    while running := [trainer for trainer in trainers if not trainer.finished]:
        if running[0].epoch % 2:
            running.reverse()
        records = [trainer.step() for trainer in running]
        folder.append(records)
        skipped = sum(trainer.config.epochs - trainer.epoch for trainer in running if trainer.finished)
        progress.advance(_line(records), len(records) + skipped)
        stop = interrupt.signal
        if stop is not None or time.monotonic() - saved > CHECKPOINT_SECONDS:
            folder.save(trainers[0].seed, [trainer.state() for trainer in trainers])
            saved = time.monotonic()
        if stop is not None:
            raise Interrupted(stop)


def _line(records: list[Record]) -> str:
    parts = []
    for record in sorted(records, key=lambda record: str(record["variant"])):
        spent = record["train_ms"] + record["eval_ms"]
        accuracy = f"loss {record['train_loss']:.3f} val {record['val_accuracy']:.3f}"
        parts.append(f"{record['variant']} {accuracy} {spent:.1f} ms")
    return f"seed {records[0]['seed']}  " + "  |  ".join(parts)
