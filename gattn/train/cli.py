"""``gattn train``: options, folder, training, summary, figure."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from gattn.terminal import print_json, say
from gattn.train.config import add_config_arguments, from_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``gattn train``."""
    add_config_arguments(parser)
    parser.add_argument("--out", type=Path, help="output folder (default: runs/<data set>-<layer>-<size>)")
    parser.add_argument("--resume", action="store_true", help="continue the run in the output folder")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in the output folder")
    parser.add_argument("--no-memory", action="store_true", help="with --compare: do not measure peak memory")
    parser.add_argument("--no-plot", action="store_true", help="no learning curves")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> int:
    """Train, and leave metrics, models, curves and summary in the output folder."""
    import torch

    from gattn.train.data import load
    from gattn.train.experiment import Interrupted, train
    from gattn.train.folder import RunFolder
    from gattn.train.memory import peak_memory
    from gattn.train.model import conv_class
    from gattn.train.plot import draw_curves
    from gattn.train.summary import report, summarise

    config = from_arguments(args)
    folder = RunFolder(args.out or Path("runs") / config.folder_name)
    if args.resume:
        config = folder.resume(config)
    if config.threads:
        torch.set_num_threads(config.threads)
    for variant in config.variants:
        conv_class(variant)  # a missing package shows before anything is written
    data = load(config)
    if not args.resume:
        folder.create(config, args.overwrite)
    say(
        f"{data.name}: {len(data.x)} nodes, {data.edge_index.size(1)} edges, {data.x.size(1)} features,"
        f" {data.num_classes} classes; {int(data.train.sum())} train, {int(data.val.sum())} validation,"
        f" {int(data.test.sum())} test; {torch.get_num_threads()} threads; output in {folder.path}"
    )
    try:
        train(config, data, folder)
    except Interrupted as stop:
        say(f"interrupted; continue with: gattn train --resume --out {folder.path}")
        return 128 + signal.Signals(stop.signal)
    memory = {}
    if config.compare and not args.no_memory:
        say("measuring peak memory, one process per layer")
        memory = {name: peak_memory(config, name, torch.get_num_threads()) for name in config.variants}
    summary = summarise(config, folder.records(), memory)
    if not args.no_plot:
        draw_curves(folder.curves, config, folder.records(), summary)
    folder.finish(summary)
    if args.json:
        print_json(summary)
    else:
        print(report(summary))
        say(f"\nmetrics, curves and models are in {folder.path}")
    return 0
