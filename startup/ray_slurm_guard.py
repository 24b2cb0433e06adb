"""Keeps Ray's commands from reading a configuration that another user left for them in /tmp.

Before they load a provider, they take the resolved configuration from a file whose name follows
from the YAML, whoever wrote it. For clusters of this project they do without that file.

`ray_slurm_guard.pth` imports this at the start of every Python of the environment, so it imports
nothing, and no error in it may stop anybody. Both files are copied on installation, also by
``pip install -e``.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_LAUNCHER = "ray.autoscaler._private.commands"
_OUR_MODULES = "slurm_provider."


class _Finder:
    """Finds Ray's launcher where the other finders do, and has it changed once it is loaded."""

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        if name != _LAUNCHER:
            return None
        finders: Any = sys.meta_path
        for finder in finders:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    _change_when_loaded(spec.loader)
                    return spec
        return None


def _change_when_loaded(loader: "Any") -> None:
    def exec_module(module: "Any") -> None:
        load(module)
        if hasattr(module, "_bootstrap_config"):
            module._bootstrap_config = _without_cache(module._bootstrap_config)

    try:
        load = loader.exec_module
        loader.exec_module = exec_module
    except AttributeError:
        pass  # an unusual loader; the provider's own check is left


def _without_cache(bootstrap: "Callable[..., Any]") -> "Callable[..., Any]":
    def _bootstrap_config(config: "Any", no_config_cache: bool = False, **options: "Any") -> "Any":
        if not _is_ours(config):
            return bootstrap(config, no_config_cache=no_config_cache, **options)
        resolved = bootstrap(config, no_config_cache=True, **options)
        try:
            from slurm_provider.config_cache import warn_of_foreign
        except ImportError:
            return resolved  # another version of the package is first on the path
        warn_of_foreign(resolved["provider"].get("_config_cache_path"))
        return resolved

    return _bootstrap_config


def _is_ours(config: "Any") -> bool:
    provider = config.get("provider") if isinstance(config, dict) else None
    module = provider.get("module") if isinstance(provider, dict) else None
    return isinstance(module, str) and module.startswith(_OUR_MODULES)


sys.meta_path.insert(0, _Finder())
