"""Another user of the site was there first: in /tmp of the edge node and of the hosts, and in a
folder where a cluster is to be."""

from __future__ import annotations

import json
import pwd
import re
import secrets

import pytest

from tests.e2e.cluster import Cluster, config
from tests.e2e.conftest import MakeCluster
from tests.sandbox_fixture import RunningSandbox, wait_for

pytestmark = pytest.mark.sandbox


def test_what_lies_in_the_place_of_rays_cache_is_ignored_by_every_command(
    sandbox: RunningSandbox, cluster: Cluster
) -> None:
    path = cluster.run("python", "-c", _CACHE, str(cluster.yaml)).output.split()[-1]
    commands = {
        "a file": ["exec", "echo reached"],
        "a link": ["up -y", "--no-restart"],
        "a hard link": ["exec", "echo reached"],
        "a folder": ["rsync-up", str(cluster.yaml), "/tmp/neighbours-test"],
    }
    for kind, command in commands.items():
        sandbox.run("sh", "-c", _PLANT, "sh", path, kind, stdin=_PLANTED, user="user2")
        try:
            done = cluster.ray(*command)
        finally:
            sandbox.run("rm", "-rf", path, f"{path}.other", user="user2")

        assert done.output.count(f"Ignored {path}, ") == 1, (kind, done.output)
        assert "belongs to user2" in done.output
        assert ("reached" in done.output) == (command[0] == "exec")
    checked = cluster.run("ray-slurm", "check", str(cluster.yaml), "--no-job")
    assert re.search(r"^ok +configuration cache", checked.output, re.MULTILINE)


def test_a_worker_starts_where_another_user_has_made_its_folder(
    sandbox: RunningSandbox, cluster: Cluster
) -> None:
    host = cluster.content["available_node_types"]["pair"]["node_config"]["nodelist"]
    known = f"/tmp/rs-{pwd.getpwnam(cluster.user).pw_uid}"

    def is_planted() -> bool:  # once no node of ours is left there
        made = sandbox.run("mkdir", known, user="user2", host=host, check=False)
        return made.returncode == 0

    wait_for(is_planted, 180, poll_s=0.5)  # tests beside this one have nodes there, too
    try:
        node_id = cluster.ask(_WHERE)
        report = cluster.json(f"nodes/{node_id}/node.json")
        assert report["host"] == host
        assert re.match(r"/tmp/rs\.[a-z2-7]{5}/", report["temp_dir"])
        assert f"{known} exists and is not a folder of this user" in cluster.agent_log(node_id)
        assert sandbox.run("ls", "-A", known, user="user2", host=host).stdout == ""
        assert "paused" not in json.dumps(cluster.json("autoscaler.json"))
        gone = ["test", "!", "-e", report["temp_dir"].rpartition("/")[0]]
        wait_for(lambda: sandbox.run(*gone, host=host, check=False).returncode == 0, 60, poll_s=0.5)
    finally:
        sandbox.run("rmdir", known, user="user2", host=host)


def test_a_cluster_is_not_made_in_a_folder_that_another_user_has_made(
    sandbox: RunningSandbox, make_cluster: MakeCluster
) -> None:
    folder = f"/tmp/neighbours-{secrets.token_hex(4)}"
    cluster = make_cluster("squatted", config(cluster_dir=f"{folder}/demo"))
    sandbox.run("mkdir", "-m", "777", folder, user="user2")
    try:
        done = cluster.up(check=False)
        left = sandbox.run("ls", "-A", folder).stdout
    finally:
        sandbox.run("rm", "-rf", folder, user="user2")

    assert done.code != 0 and "Traceback" not in done.output
    assert f"{folder} belongs to user2, who may replace what is in it" in done.output
    assert left == "" and cluster.jobs() == {}


# Where the command would look, had it not been for us.
_CACHE = """
import sys, yaml
from ray.autoscaler.sdk import bootstrap_config
config = yaml.safe_load(open(sys.argv[1]))
print(bootstrap_config(config, no_config_cache=True)["provider"]["_config_cache_path"])
"""

# Another provider, which knows no such cluster.
_PLANTED = json.dumps({"_version": 1, "config": {"provider": {"type": "local"}}})

_PLANT = """
case $2 in
"a folder") mkdir -m 755 "$1" ;;
"a file") cat > "$1" && chmod 644 "$1" ;;
"a link") cat > "$1.other" && chmod 644 "$1.other" && ln -s "$1.other" "$1" ;;
"a hard link") cat > "$1.other" && chmod 644 "$1.other" && ln "$1.other" "$1" ;;
esac
"""

_WHERE = """
@ray.remote(num_cpus=0, resources={"pair": 1})
def where():
    return os.environ["RAY_CLOUD_INSTANCE_ID"]
result = ray.get(where.remote(), timeout=80)
"""
