from __future__ import annotations

import pytest
import ray

from slurm_provider.errors import ConfigError
from slurm_provider.requirements import check_ray_version, version_tuple


@pytest.mark.parametrize("version", ["1.13.0", "2.9.3", "2.51.2"])
def test_a_ray_that_is_too_old_is_refused_with_the_reason(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "__version__", version)
    with pytest.raises(ConfigError, match=rf"Ray {version} is not supported: .*\[default\]>=2\.52"):
        check_ray_version()


@pytest.mark.parametrize("version", ["2.52.0", "2.60.0", "2.100.0", "3.0.0.dev0"])
def test_newer_ones_are_taken(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "__version__", version)
    check_ray_version()
    assert version_tuple(version) >= (2, 52)
