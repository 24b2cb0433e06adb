from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sandbox import SandboxError
from sandbox.python_env import existing_environment, own_environment


def test_no_wish_is_no_environment() -> None:
    assert existing_environment(None) is None


def test_a_folder_without_bin_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"there is no folder .*/bin"):
        existing_environment(str(tmp_path))


def test_a_folder_that_hosts_do_not_share_is_refused() -> None:
    # As /tmp would be, and sure to have a bin/ in every process.
    with pytest.raises(SandboxError, match="each host has its own /proc"):
        existing_environment("/proc/self/root/usr")


def test_a_shared_folder_with_bin_is_taken() -> None:
    assert existing_environment("/usr") == "/usr"


def test_without_a_virtual_environment_there_is_none_to_offer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert own_environment() is None
