"""From the lines of metrics.jsonl to one summary: selected epochs, accuracies, times, ratios."""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

from gattn.terminal import table
from gattn.train.config import Config
from gattn.train.trainer import Record


def summarise(config: Config, records: list[Record], memory: dict[str, Any]) -> dict[str, Any]:
    """The result of a run as plain JSON types; ``memory`` maps variants to peak bytes or is empty."""
    variants = {name: _variant(name, records) for name in config.variants}
    for name, measured in memory.items():
        variants[name]["peak_memory_bytes"] = measured["bytes"]
        variants[name]["peak_memory_method"] = measured["method"]
    summary: dict[str, Any] = {"config": dataclasses.asdict(config), "variants": variants}
    if config.compare:
        ours, theirs = variants["gattn"], variants["pyg"]
        summary["comparison"] = {
            "speedup_epoch": theirs["epoch_ms"] / ours["epoch_ms"],
            "speedup_train_step": theirs["train_ms"] / ours["train_ms"],
            "test_accuracy_difference": ours["test_accuracy_mean"] - theirs["test_accuracy_mean"],
        }
        if memory:
            ratio = theirs["peak_memory_bytes"] / max(1, ours["peak_memory_bytes"])
            summary["comparison"]["memory_ratio"] = ratio
    return summary


def _variant(name: str, records: list[Record]) -> dict[str, Any]:
    mine = [record for record in records if record["variant"] == name]
    seeds = sorted({record["seed"] for record in mine})
    selected = [_selected([record for record in mine if record["seed"] == seed]) for seed in seeds]
    result: dict[str, Any] = {"seeds": seeds, "selected_epoch": [record["epoch"] for record in selected]}
    for part in ("val", "test"):
        values = [record[f"{part}_accuracy"] for record in selected]
        result[f"{part}_accuracy"] = values
        result[f"{part}_accuracy_mean"] = statistics.fmean(values)
        result[f"{part}_accuracy_std"] = statistics.stdev(values) if len(values) > 1 else 0.0
    result["train_ms"] = statistics.median(record["train_ms"] for record in mine)
    result["eval_ms"] = statistics.median(record["eval_ms"] for record in mine)
    result["epoch_ms"] = statistics.median(record["train_ms"] + record["eval_ms"] for record in mine)
    return result


def _selected(records: list[Record]) -> Record:
    """The epoch that the trainer kept: highest validation accuracy, then lowest loss, then first."""
    return min(records, key=lambda r: (-r["val_accuracy"], r["val_loss"], r["epoch"]))


def report(summary: dict[str, Any]) -> str:
    """The summary for a person."""
    config, rows = summary["config"], []
    label = {"gattn": "gattn.FusedGATConv", "pyg": "PyG GATConv"}
    for name, result in summary["variants"].items():
        memory = result.get("peak_memory_bytes")
        rows.append(
            (
                label[name],
                _percent(result["test_accuracy_mean"], result["test_accuracy_std"], config["runs"]),
                _percent(result["val_accuracy_mean"], result["val_accuracy_std"], config["runs"]),
                f"{result['train_ms']:.2f}",
                f"{result['eval_ms']:.2f}",
                f"{result['epoch_ms']:.2f}",
                "-" if memory is None else f"{memory / 2**20:.1f}",
            )
        )
    header = ("layer", "test %", "val %", "train ms", "eval ms", "epoch ms", "peak MiB")
    title = f"{config['dataset']}: {config['runs']} run(s) of {config['epochs']} epochs"
    lines = [title, "", table(rows, header)]
    ratios = summary.get("comparison")
    if ratios:
        memory_text = f", {ratios['memory_ratio']:.1f} x less peak memory" if "memory_ratio" in ratios else ""
        lines += [
            "",
            f"gattn is {ratios['speedup_epoch']:.2f} x as fast per epoch"
            f" ({ratios['speedup_train_step']:.2f} x per training step){memory_text};"
            f" test accuracy differs by {100 * ratios['test_accuracy_difference']:+.2f} points.",
        ]
    lines.append("Times: medians over all epochs. Accuracy: at the epoch with the best validation.")
    return "\n".join(lines)


def _percent(mean: float, std: float, runs: int) -> str:
    return f"{100 * mean:.2f} ± {100 * std:.2f}" if runs > 1 else f"{100 * mean:.2f}"
