"""The ``gattn`` command.

A subcommand is a row of :data:`COMMANDS` and a module with ``add_arguments(parser)`` and
``run(args) -> int``. Only the module of the subcommand called is imported, and what it needs when it runs.

Exit status: 0 success, 1 a check failed, 2 a mistake of the caller (one line on standard error),
130 or 143 after an interrupt.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from gattn.terminal import UsageError, say

COMMANDS = {
    "info": ("gattn.info", "versions, instruction set, threads, and which backends can run here"),
    "train": ("gattn.train.cli", "train a GAT, alone or side by side with PyTorch Geometric's layer"),
    "bench": ("gattn.bench.cli", "measure speed and memory against the other implementations installed"),
    "tune": ("gattn.bench.tune", "time block sizes of the Triton kernels on this GPU and keep the fastest"),
    "study": ("gattn.studies.cli", "reproduce a paper's experiment, with a report"),
    "check": ("gattn.check.cli", "compare ops and backends with the fp64 reference on random cases"),
}


def installed_version() -> str:
    """The version of the installed distribution; a bare source tree has none."""
    try:
        return version("gattn")
    except PackageNotFoundError:
        return "unknown (not installed)"


def build_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The command's parser; only the subcommands named in ``argv`` get their options."""
    parser = argparse.ArgumentParser(prog="gattn", description="Fast attention over graphs.")
    parser.add_argument("--version", action="version", version=f"gattn {installed_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="|".join(COMMANDS))
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        if name in argv:
            implementation = importlib.import_module(module)
            implementation.add_arguments(command)
            command.set_defaults(run=implementation.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        args = build_parser(argv).parse_args(argv)
        return int(args.run(args))
    except SystemExit as stop:  # argparse's way out: --help and --version (0), bad options (2)
        return int(stop.code or 0)
    except BrokenPipeError:  # the reader left, e.g. `gattn info | head -1`; keep the interpreter's exit quiet
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UsageError as error:
        say(f"gattn: error: {error}")
        return 2
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        say(f"gattn: error: {error.strerror or error}{place}")
        return 2
    except KeyboardInterrupt:
        say("gattn: interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main())
