"""What becomes of the commands that Ray makes of a user's words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slurm_provider.command_runner import rays_own_mkdirs, submit_command
from slurm_provider.errors import ClusterError

WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(script=WORDS, arguments=st.lists(WORDS, max_size=3))
@example(script="my script.py", arguments=["a b", "$(touch pwned)", "it's", "; id", "~", ""])
def test_ray_submit_passes_every_word_on_as_it_was_typed(script: str, arguments: list[str]) -> None:
    params = {"script": f"/here/{script}", "script_args": tuple(arguments), "args": None}
    name = os.path.basename(f"/here/{script}")
    rays = " ".join(["python", f"~/{name}", *arguments])
    path = f"/shared/a b/{name}"
    command = submit_command(f"{rays}; true", params, path)
    show = "import sys; print(ascii(sys.argv[1:]))"
    command = command.replace("python", f"{sys.executable} -S -c '{show}'", 1)
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20)
    assert done.stdout.strip() == ascii([path, *arguments]), done.stderr


def test_the_deprecated_text_of_arguments_stays_a_shells() -> None:
    params = {"script": "x.py", "script_args": (), "args": "--out $HOME"}
    assert submit_command("python ~/x.py --out $HOME", params, "/s/x.py") == (
        "python /s/x.py --out $HOME"
    )
    with pytest.raises(ClusterError, match="not understood"):
        submit_command("python3 -u x.py", params, "/s/x.py")


@pytest.mark.parametrize("target", ["~/data", "/scratch/a b", "/x/$(touch pwned)", "/x/y/", "~/a"])
def test_what_ray_makes_a_mounts_folder_with_is_known_and_not_run(
    target: str, tmp_path: Path
) -> None:
    from ray.autoscaler._private.updater import NodeUpdater

    commands: list[str] = []

    class Recorder:
        def run(self, cmd: str, **_: object) -> None:
            commands.append(cmd)

    updater = NodeUpdater.__new__(NodeUpdater)
    updater.cmd_runner, updater.docker_config, updater.log_prefix = Recorder(), None, ""
    updater.cluster_synced_files, updater.file_mounts_contents_hash = [], None
    (tmp_path / "file").touch()
    for source in (tmp_path, tmp_path / "file"):
        updater.file_mounts = {target: str(source)}
        updater.sync_file_mounts(lambda *args, **options: None)
    assert len(commands) >= 2
    assert set(commands) <= rays_own_mkdirs([target])
