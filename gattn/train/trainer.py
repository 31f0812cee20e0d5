"""One model in training: an epoch at a time, with its own random stream, and a state that can be saved."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gattn.train.config import Config
from gattn.train.data import NodeData
from gattn.train.model import GAT

#: One line of metrics.jsonl.
Record = dict[str, Any]


class Trainer:
    """Trains one variant from one seed.

    Several trainers may take turns in a process: each keeps its own state of torch's random generator, so
    that what it computes depends neither on the others nor on where it was interrupted.
    """

    def __init__(self, variant: str, config: Config, data: NodeData, seed: int) -> None:
        self.variant, self.config, self.data, self.seed = variant, config, data, seed
        self._random = torch.Generator().manual_seed(seed).get_state()
        with self._own_random():
            self.model = GAT(variant, config, data.x.size(1), data.num_classes)
        parameters = self.model.parameters()
        self.optimizer = torch.optim.Adam(parameters, config.lr, weight_decay=config.weight_decay)
        self.epoch = 0
        self.best: Record = {"epoch": 0, "val_accuracy": -1.0, "val_loss": float("inf")}
        self.best_model: dict[str, Tensor] = {}

    @contextmanager
    def _own_random(self) -> Iterator[None]:
        others = torch.get_rng_state()
        torch.set_rng_state(self._random)
        try:
            yield
        finally:
            self._random = torch.get_rng_state()
            torch.set_rng_state(others)

    @property
    def finished(self) -> bool:
        """All epochs done, or no better validation for ``patience`` epochs."""
        waited = self.epoch - self.best["epoch"]
        return self.epoch >= self.config.epochs or 0 < self.config.patience <= waited

    def step(self) -> Record:
        """Train and evaluate one epoch."""
        with self._own_random():
            started = time.perf_counter()
            train_loss = self._train()
            trained = time.perf_counter()
            scores = self._evaluate()
            evaluated = time.perf_counter()
        self.epoch += 1
        record = {"variant": self.variant, "seed": self.seed, "epoch": self.epoch, "train_loss": train_loss}
        for part, mask in (("train", self.data.train), ("val", self.data.val), ("test", self.data.test)):
            y = self.data.y[mask]
            record[f"{part}_accuracy"] = (scores[mask].argmax(-1) == y).double().mean().item()
            if part == "val":
                record["val_loss"] = F.cross_entropy(scores[mask], y).item()
        record["train_ms"] = round((trained - started) * 1e3, 4)
        record["eval_ms"] = round((evaluated - trained) * 1e3, 4)
        self._keep_best(record)
        return record

    def _train(self) -> float:
        self.model.train()
        self.optimizer.zero_grad()
        scores = self.model(self.data.dropped_features(self.config.dropout), self.data.edge_index)
        loss = F.cross_entropy(scores[self.data.train], self.data.y[self.data.train])
        loss.backward()
        self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def _evaluate(self) -> Tensor:
        self.model.eval()
        scores: Tensor = self.model(self.data.x, self.data.edge_index)
        return scores

    def _keep_best(self, record: Record) -> None:
        """Model selection: the highest validation accuracy, the lower validation loss among equals."""
        best = self.best
        if (record["val_accuracy"], -record["val_loss"]) > (best["val_accuracy"], -best["val_loss"]):
            self.best = {key: record[key] for key in best}
            self.best_model = {name: value.clone() for name, value in self.model.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """Everything that a continuation needs to do the same arithmetic."""
        return {
            "variant": self.variant,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": self._random,
            "epoch": self.epoch,
            "best": self.best,
            "best_model": self.best_model,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._random = state["random"]
        self.epoch, self.best, self.best_model = state["epoch"], state["best"], state["best_model"]
