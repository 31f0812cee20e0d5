"""``gattn check``: the sweep, its report, and the comparison with a baseline."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

from gattn.check.results import Entry, Results, to_json
from gattn.terminal import Progress, UsageError, print_json, say, table

DTYPE_NAMES = ("fp32", "fp64", "bf16", "fp16")
#: Seconds between two versions of the results file.
WRITE_SECONDS = 2.0
#: How many of the worst cases are shown.
SHOWN = 5


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, got {value}")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``gattn check``."""
    add = parser.add_argument
    add("--op", default="all", help="op to check, or all")
    add("--backend", default="all", help="backend to check, or all that are usable here beside the reference")
    add("--dtype", default="all", help=f"{', '.join(DTYPE_NAMES)}, several joined by commas, or all")
    add("--modifiers", help="only these in every case, joined by commas, or none; else each now and then")
    add("--cases", type=_natural, default=100, help="how many cases, taken in turn by the ops and dtypes")
    add("--all", action="store_true", help="before those, a case of every op, dtype and set of modifiers")
    add("--seed", type=_natural, default=0, help="which sweep")
    add("--case", type=_natural, help="only this case, with its particulars")
    add("--limit", type=float, default=2.0, help="errors may be this many times the reference's own")
    add("--write", type=Path, metavar="FILE", help="write the results here, as they come")
    add(
        "--against",
        type=Path,
        metavar="FILE",
        help="exit with 1 when something is worse than in these results",
    )
    add("--json", action="store_true", help="print the summary as JSON")


def _ops(asked: str) -> list[str]:
    from gattn.check.ops import OPS

    if asked != "all" and asked not in OPS:
        raise UsageError(f"--op {asked}: expected {', '.join(OPS)} or all")
    return list(OPS) if asked == "all" else [asked]


def _backends(asked: str) -> list[str]:
    import gattn

    known = gattn.backends()
    if asked == "all":
        chosen = [name for name, (usable, _) in known.items() if usable and name != "reference"]
        if not chosen:
            reasons = "; ".join(f"{name}: {reason}" for name, (_, reason) in known.items() if name != "reference")
            raise UsageError(f"no backend to check is usable here ({reasons})")
        return chosen
    if asked not in known:
        raise UsageError(f"--backend {asked}: expected {', '.join(known)} or all")
    usable, reason = known[asked]
    if not usable:
        raise UsageError(f"--backend {asked} is not usable here: {reason}")
    return [asked]


def _dtypes(asked: str) -> list[str]:
    chosen = list(DTYPE_NAMES) if asked == "all" else asked.split(",")
    unknown = [name for name in chosen if name not in DTYPE_NAMES]
    if unknown:
        raise UsageError(f"--dtype {','.join(unknown)}: expected {', '.join(DTYPE_NAMES)} or all")
    return chosen


def _modifiers(asked: str | None) -> frozenset[str] | None:
    from gattn.check.modifiers import MODIFIERS

    if asked is None:
        return None
    chosen = frozenset() if asked == "none" else frozenset(asked.split(","))
    unknown = sorted(chosen - MODIFIERS.keys())
    if unknown:
        raise UsageError(f"--modifiers {','.join(unknown)}: expected {', '.join(MODIFIERS)} or none")
    return chosen


@dataclass(frozen=True)
class Planned:
    """A case to draw."""

    op: str
    dtype: str
    number: int
    modifiers: frozenset[str] | None

    def command(self, backend: str, args: argparse.Namespace) -> str:
        """What draws and checks it again."""
        words = f"gattn check --op {self.op} --dtype {self.dtype} --backend {backend} --seed {args.seed}"
        words += f" --case {self.number}" + (f" --limit {args.limit}" if args.limit != 2.0 else "")
        if self.modifiers is not None:
            words += f" --modifiers {','.join(sorted(self.modifiers)) or 'none'}"
        return words


def _subsets(op: str) -> list[frozenset[str]]:
    """Every set of modifiers that ``op`` takes, smallest first."""
    from gattn.check.modifiers import MODIFIERS
    from gattn.check.ops import OPS

    names = [name for name in MODIFIERS if name not in OPS[op].without]
    return [frozenset(chosen) for size in range(len(names) + 1) for chosen in combinations(names, size)]


def _plan(args: argparse.Namespace) -> Iterator[Planned]:
    """With ``--all`` every combination; then the ops take turns, and in each turn of theirs the dtypes."""
    ops, dtypes, modifiers = _ops(args.op), _dtypes(args.dtype), _modifiers(args.modifiers)
    first = 0
    if args.all and args.case is None:
        for op, dtype in product(ops, dtypes):
            for chosen in _subsets(op) if modifiers is None else [modifiers]:
                yield Planned(op, dtype, first, chosen)
                first += 1
    for turn, number in enumerate(range(first, first + args.cases) if args.case is None else [args.case]):
        yield Planned(ops[turn % len(ops)], dtypes[turn // len(ops) % len(dtypes)], number, modifiers)


def _check(planned: Planned, backends: list[str], args: argparse.Namespace) -> Iterator[Entry]:
    """One entry of the results for each backend."""
    from gattn.check.measure import DTYPES, Standard, draw_case, run_backend
    from gattn.check.ops import OPS

    if not backends:
        return
    case = draw_case(OPS[planned.op], DTYPES[planned.dtype], args.seed, planned.number, planned.modifiers)
    standard = Standard.of(case)
    for backend in backends:
        started = time.perf_counter()
        reason, scores = "", {}
        try:
            scores = standard.scores(run_backend(case, backend))
        except Exception as error:  # whatever a backend raises on valid input is its fault, and a result
            reason = f"{type(error).__name__}: {error}"
        over = {name: score for name, score in scores.items() if not score <= args.limit}
        if over:
            reason = ", ".join(f"{name} {score:.2f}" for name, score in over.items())
        yield {
            "passed": not reason,
            "reason": reason,
            "scores": {name: to_json(score) for name, score in scores.items()},
            "case": case.describe(),
            "seconds": round(time.perf_counter() - started, 4),
            "repeat": planned.command(backend, args),
        }


def _sweep(args: argparse.Namespace, results: Results, backends: list[str]) -> None:
    from gattn.check.ops import OPS

    plan = list(_plan(args))
    written = time.monotonic()
    with Progress(len(plan), "case") as progress:
        for planned in plan:
            able = [backend for backend in backends if backend in OPS[planned.op].backends]
            for backend, entry in zip(able, _check(planned, able, args), strict=True):
                results.cases[f"{planned.op}/{planned.dtype}/{backend}/{planned.number}"] = entry
                if not entry["passed"]:
                    progress.message(f"FAILED  {entry['reason']}\n        {entry['repeat']}")
            progress.advance(f"{len(results.failed)} failed")
            if args.write is not None and time.monotonic() - written > WRITE_SECONDS:
                results.write(args.write, complete=False)
                written = time.monotonic()


def _header(args: argparse.Namespace) -> dict[str, Any]:
    from gattn.info import collect

    info = collect()
    machine = {"platform": info["platform"], "threads": info["threads"], "core": info["core"]}
    return {
        "seed": args.seed,
        "limit": args.limit,
        "gattn": info["gattn"],
        "packages": info["packages"],
        **machine,
    }


def _report(results: Results, args: argparse.Namespace) -> str:
    rows = [
        (group, count, f"{median:.2f}", f"{worst:.2f}", number)
        for group, count, median, worst, number in results.summary()
    ]
    lines = [
        "Error of each result in units of the reference's own error (see gattn/check/measure.py)",
        "",
        table(rows, ("op/dtype/backend/tensor", "cases", "median", "worst", "case")),
    ]
    worst = sorted(results.cases.values(), key=_worst, reverse=True)[:SHOWN]
    lines += ["", "Worst cases:", *(f"  {_worst(entry):6.2f}  {entry['repeat']}" for entry in worst)]
    if args.case is not None:
        for key, entry in results.cases.items():
            lines += ["", key, *(f"  {name}: {value}" for name, value in entry["case"].items())]
    return "\n".join(lines)


def _worst(entry: Entry) -> float:
    """An entry's largest score; raising is worse than any."""
    return max((float(score) for score in entry["scores"].values()), default=float("inf"))


def run(args: argparse.Namespace) -> int:
    """Sweep, report, compare; 1 if a case fails or something is worse than in the baseline."""
    backends = _backends(args.backend)
    baseline = None if args.against is None else Results.read(args.against)
    results = Results(_header(args))
    _sweep(args, results, backends)
    if args.write is not None:
        results.write(args.write, complete=True)
    regressions = [] if baseline is None else results.regressions(baseline)
    failed = results.failed
    if args.json:
        print_json(
            {
                **results.header,
                "cases": len(results.cases),
                "failed": {key: results.cases[key] for key in failed},
                "regressions": [str(regression) for regression in regressions],
                "groups": {
                    group: {
                        "cases": count,
                        "median": to_json(median),
                        "worst": to_json(worst),
                        "worst_case": int(case),
                    }
                    for group, count, median, worst, case in results.summary()
                },
            }
        )
    else:
        print(_report(results, args))
    for regression in regressions:
        say(f"REGRESSION  {regression}")
    verdict = f"{len(results.cases)} cases, {len(failed)} failed"
    say(verdict if baseline is None else f"{verdict}, {len(regressions)} regressions against {args.against}")
    return 1 if failed or regressions else 0
