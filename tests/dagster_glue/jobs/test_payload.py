from __future__ import annotations

import datetime
import shlex
from pathlib import Path
from typing import Any

import pytest

from dagster_glue.jobs.errors import PayloadError
from dagster_glue.jobs.package import build_package
from dagster_glue.jobs.payload import Payload, check_extras, plan_payload


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_module_is_run_as_it_is_written() -> None:
    payload = plan_payload("python -m train.entrypoint --name 'a b' ';' '$x'")
    assert payload.command == ("python", "-m", "train.entrypoint", "--name", "a b", ";", "$x")
    assert not payload.files


@pytest.mark.parametrize("written", ["train.py --x 1", "python train.py --x 1"])
def test_a_script_is_uploaded_and_run_by_its_name(tmp_path: Path, written: str) -> None:
    (tmp_path / "train.py").touch()
    payload = plan_payload(written)
    assert payload.command == ("python", "train.py", "--x", "1")
    assert payload.files == {"train.py": str(tmp_path / "train.py")}


def test_a_path_with_blanks_needs_no_quotes(tmp_path: Path) -> None:
    script = tmp_path / "my train.py"
    script.touch()
    assert plan_payload(str(script)).command == ("python", "my train.py")
    assert plan_payload(f"{shlex.quote(str(script))} -x").command == ("python", "my train.py", "-x")


def test_options_of_the_interpreter_are_kept(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    payload = plan_payload("python3 -X dev -u train.py")
    assert payload.command == ("python3", "-X", "dev", "-u", "train.py")


def test_a_script_inside_the_working_dir_is_not_uploaded_twice(tmp_path: Path) -> None:
    (tmp_path / "job" / "sub").mkdir(parents=True)
    (tmp_path / "job" / "sub" / "train.py").touch()
    for written in ("job/sub/train.py", "sub/train.py"):
        payload = plan_payload(written, working_dir="job")
        assert payload.command == ("python", "sub/train.py")
        assert not payload.files


@pytest.mark.parametrize(
    ("written", "options", "words"),
    [
        ("", {}, "is empty"),
        ("python 'x", {}, "not quoted right"),
        ("nowhere.py", {}, "there is no file 'nowhere.py'"),
        ("python -m", {}, "no module follows"),
        ("python -u", {}, "names no script"),
        ("python -m a", {"working_dir": "nowhere"}, "is no folder"),
        ("python -m a", {"extra_files": ["nowhere"]}, "there is no"),
        ("python -m a", {"extra_env": {"A": 1}}, "only text"),
        ("python -m a", {"working_dir": ".", "runtime_env": {"working_dir": "b"}}, "twice"),
        ("train.py", {"working_dir": "s3://b/c.zip"}, "is a URI"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_with_the_reason(
    tmp_path: Path, written: str, options: dict[str, object], words: str
) -> None:
    (tmp_path / "train.py").touch()
    with pytest.raises(PayloadError, match=words):
        plan_payload(written, **options)  # type: ignore[arg-type]


def test_what_is_given_is_not_changed(tmp_path: Path) -> None:
    runtime_env = {"env_vars": {"A": "1"}, "excludes": ["*.bin"], "pip": ["x"]}
    extra_env = {"A": "2", "B": "3"}
    payload = plan_payload("python -m a", runtime_env=runtime_env, extra_env=extra_env)
    assert payload.env_vars == {"A": "2", "B": "3"}
    assert payload.runtime_env["pip"]["packages"] == ["x"]
    assert runtime_env == {"env_vars": {"A": "1"}, "excludes": ["*.bin"], "pip": ["x"]}
    assert extra_env == {"A": "2", "B": "3"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"extra_files": "/etc/hosts"}, "extra_files is one text .* give a list"),
        ({"runtime_env": {"pipp": ["x"]}}, "no key 'pipp'; closest: pip"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_a_cluster_is_asked_for(
    arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(PayloadError, match=words):
        plan_payload("python -m a", **arguments)


def test_extras_that_are_no_json_are_refused_by_their_name() -> None:
    check_extras({"lr": 0.1, "layers": [1, 2], "names": {"a": None}})
    with pytest.raises(PayloadError, match=r"extras\['when'\] cannot be sent"):
        check_extras({"lr": 0.1, "when": datetime.date(2026, 1, 1)})


@pytest.mark.parametrize(
    ("payload_path", "words"),
    [
        ("/nowhere/train.py", "there is no file '/nowhere/train.py'; a module"),
        ("train.py", "there is no file 'train.py' in /"),
        ("/tmp", "'/tmp' is a folder: give the script in it"),
        ("bash run.sh", "'bash' is another program: payloads are Python"),
    ],
)
def test_what_is_no_script_is_told_by_what_it_is(payload_path: str, words: str) -> None:
    with pytest.raises(PayloadError) as raised:
        plan_payload(payload_path)
    assert words in str(raised.value)


def test_a_package_is_named_by_its_content_and_not_by_its_times(tmp_path: Path) -> None:
    import os

    script = tmp_path / "train.py"
    script.write_text("a")
    payload = Payload(("python", "train.py"), {"train.py": str(script)})
    first = build_package(payload, str(tmp_path / "1.zip"))
    os.utime(script, (1, 1))
    assert build_package(payload, str(tmp_path / "2.zip")) == first
    script.write_text("b")
    assert build_package(payload, str(tmp_path / "3.zip")) != first


def test_a_package_that_ray_would_refuse_is_refused_before_upload_and_says_what_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setenv("RAY_max_grpc_message_size", "100000")
    (tmp_path / "huge.bin").write_bytes(os.urandom(200_000))
    payload = Payload(("python", "-m", "a"), {"huge.bin": str(tmp_path / "huge.bin")})
    with pytest.raises(PayloadError, match=r"at most 0\.1 MiB\. Largest: huge\.bin \(0\.2 MiB\)"):
        build_package(payload, str(tmp_path / "p.zip"))
