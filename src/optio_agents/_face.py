"""Public names that are imported when first used, so that importing a package stays light."""

from collections.abc import Callable, Mapping
from importlib import import_module


def face(
    package: str, homes: Mapping[str, str]
) -> tuple[list[str], Callable[[], list[str]], Callable[[str], object]]:
    """`__all__`, `__dir__` and `__getattr__` for *package*.

    *homes* maps modules, seen from *package*, to their names with white space between.
    """
    home_of = {name: module for module, names in homes.items() for name in names.split()}
    public = sorted(home_of)

    def load(name: str) -> object:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f".{home_of[name]}", package), name)

    return public, lambda: public, load
