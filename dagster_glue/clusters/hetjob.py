"""Mode ``slurm-hetjob``: several kinds of workers in one heterogeneous job (pure).

Each launcher is a component: so many workers of one size, which start together with the others
and with the head. Made, found and ended they are as in mode ``slurm`` (see per_asset.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import PrivateAttr

from dagster_glue.launchers import Launcher, RayLauncher
from dagster_glue.strict import resolved
from slurm_provider.errors import ConfigError

# What a launcher says of its own workers; the rest is about the head, the driver or all nodes.
_OF_A_COMPONENT = (
    "num_cpus_per_node", "num_gpus_per_node", "min_workers", "max_workers", "component_id",
    "slurm_opts",
)  # fmt: skip


class HetjobLauncher(RayLauncher):
    """Several launchers as one: the first, which also speaks for the head and the driver, with the
    others beside it."""

    _others: tuple[RayLauncher, ...] = PrivateAttr(default=())


def together(launchers: Mapping[str, Launcher] | Sequence[Launcher]) -> HetjobLauncher:
    """The launchers as components, each with its ``component_id``; a mapping's keys are ids.

    What concerns the whole cluster (the head, the driver, the object store, ...) is for the first
    one to say. Raises ConfigError.
    """
    first, *others = _components(launchers)
    made = HetjobLauncher(**dict(first))
    made._others = tuple(others)
    return made


def components_in(launcher: RayLauncher) -> tuple[RayLauncher, ...]:
    """The launcher, and those beside it if it is several."""
    others = launcher._others if isinstance(launcher, HetjobLauncher) else ()
    return (launcher, *others)


def _components(
    launchers: Mapping[str, Launcher] | Sequence[Launcher],
) -> tuple[RayLauncher, ...]:
    if isinstance(launchers, Mapping):
        named = [_named(key, launcher) for key, launcher in launchers.items()]
    else:
        named = [_checked(launcher) for launcher in launchers]
    if not named:
        raise ConfigError("run_hetjob: there is no launcher; give one for each component")
    ids = [launcher.component_id for launcher in named]
    if len(named) > 1 and None in ids:
        raise ConfigError(
            "run_hetjob: a launcher has no component_id, by which tasks reach its nodes; set "
            "it, or give the launchers as a mapping"
        )
    twice = sorted({str(each) for each in ids if ids.count(each) > 1})
    if twice:
        raise ConfigError(f"run_hetjob: two launchers have the component_id {twice[0]!r}")
    for launcher in named[1:]:
        _refuse_more_than_a_component(launcher, named[0])
    return tuple(named)


def component_size(launcher: RayLauncher, num_nodes: int | None) -> tuple[int, int]:
    """How many nodes a component starts with, and how many Ray may make of them later.

    ``num_nodes`` is the queue's, for launchers that say nothing.
    """
    said = launcher.max_workers
    size = launcher.min_workers or (num_nodes if said is None else None) or 1
    return size, max(size, said or 0)


def _named(component_id: str, launcher: Launcher) -> RayLauncher:
    checked = _checked(launcher)
    if checked.component_id not in (None, component_id):
        raise ConfigError(
            f"run_hetjob: the launcher of {component_id!r} has the component_id "
            f"{checked.component_id!r}; leave one of them out"
        )
    return checked.model_copy(update={"component_id": component_id})


def _checked(launcher: Launcher) -> RayLauncher:
    if not isinstance(launcher, RayLauncher):
        raise ConfigError(
            f"run_hetjob: {type(launcher).__name__} is no RayLauncher, and the components are one "
            "Ray cluster"
        )
    found = resolved(launcher)
    if found.ray_address is not None:
        raise ConfigError("run_hetjob: ray_address names a cluster, so there is none to make")
    return found


def _refuse_more_than_a_component(launcher: RayLauncher, first: RayLauncher) -> None:
    for name, field in RayLauncher.model_fields.items():
        value = getattr(launcher, name)
        if name in _OF_A_COMPONENT or value in (getattr(first, name), field.get_default(
            call_default_factory=True
        )):  # fmt: skip
            continue
        raise ConfigError(
            f"run_hetjob: {name} of component {launcher.component_id!r} concerns the whole "
            f"cluster; set it on the first launcher ({first.component_id!r})"
        )
