"""Which tests of the sandbox may run beside each other (``pytest -n 2 --dist loadgroup``)."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A file's tests stay in one process, and so do all that share the cluster of tests/e2e."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        if item.get_closest_marker("sandbox"):
            shares_cluster = "cluster" in getattr(item, "fixturenames", ())
            item.add_marker(
                pytest.mark.xdist_group("cluster" if shares_cluster else str(item.path))
            )
