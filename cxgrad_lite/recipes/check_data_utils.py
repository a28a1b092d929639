"""Imported before anything takes from ``data_utils``: another module of that name may hide the package."""

from importlib.util import find_spec
from pathlib import Path

spec = find_spec("data_utils")
places = [Path(place) for place in spec.submodule_search_locations or ()] if spec else []
if not any((place / "tasks.py").exists() for place in places):
    hiding = (spec and spec.origin) or ", ".join(map(str, places)) or "nothing"
    raise ImportError(
        f"{hiding} is found in place of the package data_utils, which comes with cxgrad_lite; rename it, or work in "
        "another folder",
        name="data_utils",
    )
