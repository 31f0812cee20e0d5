"""Block sizes that were timed: the file they are kept in, the search, and the command."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gattn.bench import tune
from gattn.kernels import choices, tuned

from gattn.cli import main
from gattn.info import kernel_blocks

Function = Callable[..., Any]


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that is read here; what was read before is forgotten."""
    path = tmp_path / "blocks.json"
    monkeypatch.setenv(tuned.VARIABLE, str(path))
    for cached in (tuned.table, choices.choose):
        cached.cache_clear()
    yield path
    for cached in (tuned.table, choices.choose):
        cached.cache_clear()


def test_a_launch_takes_what_the_file_says(
    file: Path, graph_of: Function, inputs_of: Function, check: Function
) -> None:
    """For the score, the shape and the dtype in it alone, with the same results."""
    tuned.save(file, {tuned.Key("forward", "gatv2", 3, 2, "float64"): {"elements": 32, "warps": 1}}, device="none")
    graph = graph_of("small")
    choices.forget()
    check("gatv2", inputs_of("gatv2", graph, 3, 2), graph)
    of = {(c["kernel"], c["dtype"]): c["warps"] for c in choices.choices()}
    assert of["forward", "float64"] == 1
    assert of["target", "float64"] != 1
    assert choices.choose("forward", "small", 3, 2, True, "gat", "float64").warps != 1
    assert [block["score"] for block in kernel_blocks([(3, 2)])][-3:] == ["gatv2"] * 3


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[]",
        '{"blocks": [{"kernel": "forward"}]}',
        '{"blocks": [{"kernel": "forward", "score": "gat", "heads": "4", "channels": 32, "dtype": "float32", '
        '"options": {}}]}',
        '{"blocks": [{"kernel": "forward", "score": "gat", "heads": 4, "channels": 32, "dtype": "float32", '
        '"options": {"warps": 3}}]}',
    ],
)
def test_another_file_is_an_error_that_names_it(text: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(text)
    with pytest.raises(ValueError, match=r"Expected block sizes written by 'gattn tune' in .*blocks\.json"):
        tuned.table()
    for command in (["tune", "--out", str(file)], ["info", "--kernels"]):
        assert main(command) == 2
        assert "Delete the file" in capsys.readouterr().err


def test_the_search_keeps_what_is_faster_by_more_than_noise() -> None:
    """One option after the other, at most five timings."""
    seen: list[dict[str, int]] = []

    def timer(times: dict[tuple[tuple[str, int], ...], float]) -> Callable[[Callable[[], object]], float]:
        def time(step: Callable[[], object]) -> float:
            options = dict(choices._overrides["target"])
            seen.append(options)
            return times.get(tuple(options.items()), 1.0)

        return time

    rule = choices.ELEMENTS["target"]
    faster = {(("elements", 2 * rule),): 0.8, (("elements", 2 * rule), ("warps", 8)): 0.5}
    assert tune.tune("target", lambda: None, timer(faster)) == ({"elements": 2 * rule, "warps": 8}, 1.0, 0.5)
    assert len(seen) == 5
    noise = {(("elements", rule // 2),): 0.99}
    assert tune.tune("target", lambda: None, timer(noise)) == ({}, 1.0, 1.0)


def test_blocks_without_room_are_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    from triton.runtime.errors import OutOfResources

    def timer(step: Callable[[], object]) -> float:
        if choices._overrides["d"]:
            raise OutOfResources(300000, 232448, "shared memory")
        return 1.0

    assert tune.tune("d", lambda: None, timer) == ({}, 1.0, 1.0)
    assert "out of resource" in capsys.readouterr().err


def test_the_command_writes_what_launches_read(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tune, "alternate", lambda steps, device, seconds: {"step": {"median": 1.0}})
    arguments = ["--shapes", "1x4", "--graph", "cora-uniform", "--dtypes", "fp32", "bf16", "--layers", "gat"]
    assert main(["tune", *arguments]) == 2
    assert "mean nothing" in capsys.readouterr().err
    out = tmp_path / "out.json"
    assert main(["tune", *arguments, "--out", str(out)]) == 0
    assert "the rule's" in capsys.readouterr().out
    found = tuned.load(out)
    assert {key.kernel for key in found if key.dtype == "float32"} == {"forward", "target", "source"}
    assert {key.kernel for key in found if key.dtype == "bfloat16"} == {"forward", "d", "target", "source"}
    assert json.loads(out.read_text())["device"] == "interpreter"


@pytest.mark.parametrize("arguments", [["--layers", "gat", "gatv3"], ["--shapes", "4"], ["--dtypes", "int8"]])
def test_mistakes_are_one_line(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", *arguments, "--out", str(tmp_path / "out.json")]) == 2
    assert f"'{arguments[-1]}'" in capsys.readouterr().err
