"""Fixtures shared by the tests of the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import torch

from gattn.cli import main


class Outcome(NamedTuple):
    """What a call of the command left behind."""

    status: int
    out: str
    err: str


Gattn = Callable[..., Outcome]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tiny graphs train and check fastest so; ``--threads`` changes it for the whole process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def gattn_command(capsys: pytest.CaptureFixture[str]) -> Gattn:
    """Runs ``gattn <arguments>`` in this process."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return Outcome(status, *capsys.readouterr())

    return call
