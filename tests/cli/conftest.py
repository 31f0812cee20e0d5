"""Fixtures shared by the tests of the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from gattn.cli import main


class Outcome(NamedTuple):
    """What a call of the command left behind."""

    status: int
    out: str
    err: str


Gattn = Callable[..., Outcome]


@pytest.fixture
def gattn_command(capsys: pytest.CaptureFixture[str]) -> Gattn:
    """Runs ``gattn <arguments>`` in this process."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return Outcome(status, *capsys.readouterr())

    return call
