"""What goes wrong with the cluster's folder reaches the user of `ray up` as one sentence."""

from __future__ import annotations

import errno

import click
import pytest

from slurm_provider.node_provider import _plainly


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/c/token"),
         "/c/token: Permission denied; check provider.cluster_dir"),
        (OSError(errno.ENOSPC, "No space left on device"),
         "[Errno 28] No space left on device; check provider.cluster_dir"),
        (OSError("/c on login1 cannot be removed: busy"),
         "/c on login1 cannot be removed: busy; check provider.cluster_dir"),
    ],
)  # fmt: skip
def test_a_folder_that_fails_is_told_with_what_is_known_of_it(error: OSError, words: str) -> None:
    @_plainly
    def fails() -> None:
        raise error

    with pytest.raises(click.ClickException) as caught:
        fails()
    assert caught.value.message == words
