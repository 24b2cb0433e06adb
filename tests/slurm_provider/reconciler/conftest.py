from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.slurm_provider.reconciler.head import HeadNode


@pytest.fixture(autouse=True)
def _quiet_ray() -> Iterator[None]:
    """Ray logs several lines for each record in each tick."""
    logger = logging.getLogger("ray.autoscaler")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(before)


@pytest.fixture
def make_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., HeadNode]]:
    """A running cluster without workers; keyword arguments are keys of ``provider:``.

    No tick may end in an exception that the watcher does not expect.
    """
    made: list[HeadNode] = []

    def make(**provider: Any) -> HeadNode:
        made.append(HeadNode(tmp_path, monkeypatch, provider))
        return made[0]

    yield make
    assert [head.surprises for head in made if head.surprises] == []


@pytest.fixture
def head(make_head: Callable[..., HeadNode]) -> HeadNode:
    return make_head()
