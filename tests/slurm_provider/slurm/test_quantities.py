from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_provider.slurm import Gres, parse_gres, parse_memory_mb, parse_time_s


@pytest.mark.parametrize(
    ("text", "memory_mb"),
    [
        ("4000", 4000),
        ("4000M", 4000),
        ("4G", 4096),
        ("4g", 4096),
        ("4GB", 4096),
        ("1T", 1048576),
        ("512K", 1),
        ("1025K", 2),
        ("0", 0),
    ],
)
def test_memory_sizes_that_sbatch_takes_become_megabytes(text: str, memory_mb: int) -> None:
    assert parse_memory_mb(text) == memory_mb


@pytest.mark.parametrize("text", ["", "4X", "1.5G", "4P", "-1", "4 G", "G", "4Gx", "4BB", "4B"])
def test_a_memory_size_that_sbatch_refuses_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="K, M, G or T"):
        parse_memory_mb(text)


@pytest.mark.parametrize(
    ("text", "time_s"),
    [
        ("5", 300),
        ("5:30", 330),
        ("1:00:00", 3600),
        ("4:70:00", 18600),
        ("1-2", 93600),
        ("1-2:3", 93780),
        ("1-2:3:4", 93784),
        ("365-00:00:00", 31536000),
        ("UNLIMITED", None),
        ("infinite", None),
        ("0", None),
        ("-1", None),
    ],
)
def test_time_spans_become_seconds_and_no_limit_becomes_none(text: str, time_s: int | None) -> None:
    assert parse_time_s(text) == time_s


@pytest.mark.parametrize("text", ["", "5m", "1:2:3:4", "1-", "-5", "1-2:3:4:5", "one", "1.5", "1:"])
def test_a_time_span_that_sbatch_refuses_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="hours:minutes:seconds"):
        parse_time_s(text)


@given(
    days=st.integers(0, 400),
    hours=st.integers(0, 23),
    minutes=st.integers(0, 59),
    seconds=st.integers(1, 59),
)
def test_a_printed_time_limit_reads_back(days: int, hours: int, minutes: int, seconds: int) -> None:
    printed = f"{days}-{hours:02}:{minutes:02}:{seconds:02}"
    assert parse_time_s(printed) == ((days * 24 + hours) * 60 + minutes) * 60 + seconds


@pytest.mark.parametrize(
    ("text", "gres"),
    [
        ("gpu", [Gres("gpu", None, 1)]),
        ("gpu:2", [Gres("gpu", None, 2)]),
        ("gpu:a100", [Gres("gpu", "a100", 1)]),
        ("gpu:a100:2", [Gres("gpu", "a100", 2)]),
        ("gpu:a100:2,gpu:v100:1", [Gres("gpu", "a100", 2), Gres("gpu", "v100", 1)]),
        ("gres:gpu:1", [Gres("gpu", None, 1)]),
        ("gres/gpu:1", [Gres("gpu", None, 1)]),
        ("gres/gpu:a100=2", [Gres("gpu", "a100", 2)]),
        ("gpu:a100:2(S:0-1)", [Gres("gpu", "a100", 2)]),
        ("gpu:a100:2(IDX:0,3),lustre:1", [Gres("gpu", "a100", 2), Gres("lustre", None, 1)]),
        ("gpu:(null):2(IDX:0-1)", [Gres("gpu", None, 2)]),
        ("gpu:a100_1g.5gb:7", [Gres("gpu", "a100_1g.5gb", 7)]),
        ("bandwidth:lustre:no_consume:4G", [Gres("bandwidth", "lustre", 4 * 1024**3)]),
        ("cpu=4,mem=100M,node=1,gres/gpu=1", [Gres("gpu", None, 1)]),
        ("", []),
        ("(null)", []),
        ("N/A", []),
        ("none", []),
    ],
)
def test_gres_is_read_in_every_form_slurm_prints_or_takes(text: str, gres: list[Gres]) -> None:
    assert parse_gres(text) == gres


@pytest.mark.parametrize("text", ["gpu:", "gpu::2", ":2", "gpu:a:b:2", "gpu:a b:2", "gpu,,gpu"])
def test_broken_gres_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="generic resources"):
        parse_gres(text)


_words = st.from_regex(r"[a-z][a-z0-9_.]{0,8}", fullmatch=True).filter(
    lambda word: word not in ("no_consume", "none")
)


@given(st.lists(st.builds(Gres, _words, _words, st.integers(0, 10**6)), min_size=1))
def test_a_written_gres_list_reads_back(gres: list[Gres]) -> None:
    assert parse_gres(",".join(f"{g.name}:{g.type}:{g.count}" for g in gres)) == gres
