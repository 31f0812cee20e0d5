"""``gattn study NAME``: a paper's protocol from one command, resumable, with a report at the end."""

from __future__ import annotations

import argparse
import importlib
import signal
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gattn.terminal import Progress, print_json, require, say

if TYPE_CHECKING:
    from gattn.studies.folder import StudyFolder
    from gattn.studies.plan import Run, Study

STUDIES = {
    "lipschitz": "LipschitzNorm: accuracy by depth of GAT, with PairNorm and with LipschitzNorm, and of a transformer",
    "gradformer": "Gradformer: accuracy by depth and training set with decay and without, on graphs and nodes",
    "massive": "massive activations: largest ratios by layer of graph transformers, trained and not, with bias terms",
    "balance": "balanced initialisation: accuracy and epochs to converge by depth of GATv2",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A sub-parser for every study."""
    studies = parser.add_subparsers(dest="study", required=True, metavar="|".join(STUDIES))
    for name, summary in STUDIES.items():
        study = _study(name)
        command = studies.add_parser(name, help=summary, description=study.TITLE)
        for option, (default, quick, kind, text) in study.GRID.items():
            shown = f"{text} (default: {_spaced(default)}; with --quick {_spaced(quick)})"
            count = {"nargs": 1} if option == "seeds" else {"nargs": "+"}
            command.add_argument(f"--{option}", type=kind, default=argparse.SUPPRESS, help=shown, **count)
        study.add_arguments(command)
        command.add_argument(
            "--backend", choices=("gattn", "pyg"), default="gattn", help="whose layers to train (default: gattn)"
        )
        command.add_argument("--root", help="writable folder of PyG's raw files (default: a copy of $GATTN_DATA)")
        command.add_argument("--threads", type=int, default=0, help="threads (default: torch's)")
        command.add_argument("--out", type=Path, help="output folder (default: runs/study-<name>-<backend>)")
        command.add_argument(
            "--resume",
            action="store_true",
            help="go on where the study was interrupted, also within a run; the grid may be larger than before",
        )
        command.add_argument("--overwrite", action="store_true", help="replace the study in the output folder")
        command.add_argument("--quick", action="store_true", help="a small grid on embedded data, under three minutes")
        command.add_argument(
            "--publish", type=Path, metavar="FOLDER", help="write the report as Markdown too, with figures and results"
        )
        command.add_argument("--json", action="store_true", help="print the results as JSON")


def _spaced(values: Any) -> str:
    return " ".join(map(str, values))


def _study(name: str) -> Study:
    study: Study = importlib.import_module(f"gattn.studies.{name}")
    return study


def run(args: argparse.Namespace) -> int:
    """Do what is missing, then report."""
    require("matplotlib", "the report")
    import torch

    from gattn.bench.machine import describe
    from gattn.studies.folder import StudyFolder
    from gattn.train.experiment import Interrupted

    if args.threads:
        torch.set_num_threads(args.threads)
    study = _study(args.study)
    grid = {
        option: list(getattr(args, option, quick if args.quick else default))
        for option, (default, quick, _, _) in study.GRID.items()
    }
    protocol = {"backend": args.backend, "root": args.root, **study.protocol(args)}
    runs = study.runs(protocol, grid)
    folder = StudyFolder(args.out or Path("runs") / f"study-{args.study}-{args.backend}")
    session = {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "grid": grid,
        "threads": torch.get_num_threads(),
        "machine": describe(),
    }
    settings = folder.open(
        {"study": args.study, "protocol": protocol}, session, resume=args.resume, overwrite=args.overwrite
    )
    try:
        _train(study, settings, runs, folder)
    except Interrupted as stop:
        say(f"interrupted; continue with: gattn study {args.study} --resume --out {folder.path} and the same options")
        return 128 + signal.Signals(stop.signal)
    finally:
        _report(study, settings, folder)
    if args.publish:
        from gattn.studies.publish import publish

        results = folder.read()
        backend = None if args.backend == "gattn" else args.backend
        parts = (args.study, backend, *study.variant(protocol))  # one page does not replace another
        name = "-".join(part for part in parts if part)
        publish(args.publish, name, study.TITLE, study.sections(protocol, results), settings, results)
    if args.json:
        print_json({**settings, "results": folder.read()})
    else:
        from gattn.studies.page import markdown

        print(markdown(study.sections(protocol, folder.read())))
        say(f"\nreport: {folder.report}")
    return 0


def _train(study: Study, settings: dict[str, Any], runs: list[Run], folder: StudyFolder) -> None:
    """Every run that has no result yet, first the one that an interrupt has cut short."""
    import torch

    from gattn.studies.loop import Loop
    from gattn.train.interrupt import Interrupt

    known, checkpoint = folder.read(), folder.load()
    missing = [run for run in runs if not any(run.key.items() <= result.items() for result in known)]
    begun = [run for run in missing if checkpoint is not None and run.key == checkpoint["key"]]
    missing = begun + [run for run in missing if run not in begun]
    done = sum(run.cost for run in runs) - sum(run.cost for run in missing)
    if checkpoint is not None:
        done += sum(checkpoint["epoch"] * run.epoch_cost for run in begun)
    with Interrupt() as interrupt, Progress(sum(run.cost for run in runs), study.UNIT, done) as progress:
        for run in missing:
            torch.manual_seed(run.key["seed"])
            loop = Loop(run, folder, progress, interrupt, checkpoint if run in begun else None)
            result = study.train(run, settings["protocol"], loop)
            folder.append({**run.key, **result, "session": len(settings["sessions"]) - 1})
            loop.finish()


def _report(study: Study, settings: dict[str, Any], folder: StudyFolder) -> None:
    from gattn.files import write_atomic
    from gattn.studies.page import render

    page = render(study.TITLE, study.sections(settings["protocol"], folder.read()), settings)
    write_atomic(folder.report, lambda file: file.write(page.encode()))
