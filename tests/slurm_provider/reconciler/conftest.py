from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.slurm_provider.reconciler.head import HeadNode


@pytest.fixture
def make_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., HeadNode]:
    """A running cluster without workers; keyword arguments are keys of ``provider:``."""

    def make(**provider: Any) -> HeadNode:
        return HeadNode(tmp_path, monkeypatch, provider)

    return make


@pytest.fixture
def head(make_head: Callable[..., HeadNode]) -> HeadNode:
    return make_head()
