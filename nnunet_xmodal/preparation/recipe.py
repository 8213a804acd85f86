"""Recipes: what a published dataset looks like, as small JSON files.

    {"about": "…", "channels": {"T2W": "**/{case}_t2w.mha"}, "reference": "T2W", "label": "…", "labels": {…},
     "map": {"4": 3}, "label_component": 0, "streams": [["T2W"], …], "landmarks": {"MR": "…"}, "register": false}

Only "about" and "channels" are needed; what the command line says wins. `--channels T1w FLAIR` takes some of a recipe's
channels; with "choose": true, a recipe of whatever there may be, that has to be said.
"""

from pathlib import Path

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.json_files import read_json

KEYS = {
    "about",
    "channels",
    "choose",
    "reference",
    "label",
    "label_component",
    "labels",
    "map",
    "streams",
    "transforms",
    "landmarks",
    "register",
}
_FOLDER = Path(__file__).with_name("recipes")


def recipe_names() -> list[str]:
    """Name the recipes that come with the package."""
    return sorted(file.stem for file in _FOLDER.glob("*.json"))


def read_recipe(name: str) -> dict:
    """Read a recipe.

    Args:
        name: of a recipe of the package, or a JSON file.

    Raises:
        XModalError: for an unknown name, a file that is no JSON, a key that no recipe has, and one without channels.
    """
    file = Path(name) if name.endswith(".json") else _FOLDER / f"{name}.json"
    if not file.is_file():
        raise XModalError(f"there is no recipe {name}: take one of {', '.join(recipe_names())}, or a file that is one.")
    recipe = read_json(file)
    unknown = sorted(set(recipe) - KEYS)
    if unknown:
        raise XModalError(f"{file} has the key {unknown[0]}, which no recipe has: take from {', '.join(sorted(KEYS))}.")
    if not recipe.get("channels"):
        raise XModalError(f'{file} names no channels: add for example "channels": {{"T2W": "*t2w*"}}.')
    return recipe
