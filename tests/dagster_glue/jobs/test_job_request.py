"""What is sent to Ray's job API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dagster_glue.jobs.errors import PayloadError
from dagster_glue.jobs.payload import plan_payload
from dagster_glue.jobs.request import EntrypointResources, job_request
from dagster_glue.jobs.submission import StepCall


def request(
    runtime_env: dict[str, Any] | None = None, entrypoint: EntrypointResources | None = None
) -> dict[str, Any]:
    return job_request(
        "run-step-0-0",
        plan_payload("python -m train", runtime_env=runtime_env),
        StepCall("run", "step", 0, 0),
        "digest",
        package_uri=None,
        folder=None,
        driver_uri=None,
        env={},
        entrypoint=entrypoint or EntrypointResources(),
    )


def test_the_driver_s_own_resources_are_asked_for_by_ray_s_names() -> None:
    entrypoint = EntrypointResources(
        num_cpus=0.5, num_gpus=1, memory=1 << 30, resources={"fast": 1}
    )
    sent = request(entrypoint=entrypoint)
    assert {name: value for name, value in sent.items() if name.startswith("entrypoint_")} == {
        "entrypoint_num_cpus": 0.5,
        "entrypoint_num_gpus": 1,
        "entrypoint_memory": 1 << 30,
        "entrypoint_resources": {"fast": 1},
    }


def test_a_driver_without_resources_asks_for_none_and_so_stays_on_the_head() -> None:
    assert not [name for name in request() if name.startswith("entrypoint_")]


def test_packages_for_pip_are_sent_with_the_content_of_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("requirements.txt").write_text("idna==3.7\nray-extra==1\n")
    for given in (["idna==3.7", "ray-extra==1"], "requirements.txt"):
        sent = request({"pip": given, "env_vars": {"A": "1"}})["runtime_env"]
        assert sent["pip"]["packages"] == ["idna==3.7", "ray-extra==1"]
        assert sent["env_vars"] == {"A": "1"}


@pytest.mark.parametrize(
    ("runtime_env", "words"),
    [
        ({"py_modules": ["lib"]}, r"py_modules.*lib lies here: put it into working_dir"),
        ({"pip": ["a"], "conda": "b"}, "conda"),
        ({"pip": 3}, "pip"),
        ({"pip": "no-such-file.txt"}, "no-such-file"),
    ],
)
def test_what_ray_would_refuse_is_refused_before_anything_is_sent(
    runtime_env: dict[str, Any], words: str
) -> None:
    with pytest.raises(PayloadError, match=words):
        request(runtime_env)


def test_a_misspelt_key_is_refused_unless_it_may_be_a_plugin_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_RUNTIME_ENV_PLUGINS", raising=False)
    with pytest.raises(PayloadError, match="no key 'pipp'; closest: pip"):
        request({"pipp": ["a"]})
    monkeypatch.setenv("RAY_RUNTIME_ENV_PLUGINS", "[]")
    assert request({"pipp": ["a"]})["runtime_env"]["pipp"] == ["a"]
