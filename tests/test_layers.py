"""Who may import whom: the layers of documentation/structure.md."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LAYERS = (
    {"errors", "discovery", "catalogue", "numerics", "files"}
    | {"processes", "broken_pools", "system_failures", "uncaught", "replaced"},
    {"geometry", "physics"},
    {"datasets", "phantoms", "networks", "losses"},
    {"prediction", "evaluation"},
    {"tasks"},
    {"trainers", "planners"},
    {
        "predict",
        "predict_scans",
        "scans_request",
        "model",
        "explain",
        "sharing",
        "planning",
        "planning_request",
        "inflation",
        "crossval",
        "comparison",
        "preparation",
        "viewing",
    },
    {"demo"},
    {"commands"},
)
"""From the lowest; a module imports from its own layer and from those below."""

OF_ITS_OWN_LAYER = {
    "datasets": {"datasets"},
    "phantoms": {"phantoms"},
    "networks": {"networks"},
    "losses": {"losses"},
}
"""Rooms that import nothing from others of their layer."""

ALLOWED_BETWEEN_TASKS = {("segmentation", "synthesis")}  # absent channels can be synthesised before segmentation


def _modules() -> dict[str, Path]:
    """Return module → file, without the package's own name: "tasks.few_shot.episodes", "trainers.csad"."""
    files = [*(ROOT / "nnunet_xmodal").rglob("*.py")]
    found = {file.relative_to(ROOT / "nnunet_xmodal"): file for file in files if "plugin" not in file.parts}
    found |= {file.relative_to(ROOT): file for room in ("trainers", "planners") for file in (ROOT / room).rglob("*.py")}
    return {".".join(path.with_suffix("").parts).removesuffix(".__init__"): file for path, file in found.items()}


MODULES = _modules()


def _imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("nnunet_xmodal."):
                yield name.removeprefix("nnunet_xmodal.")


def _is_in(module: str, room: str) -> bool:
    return module.split(".")[0] == room


def _layer(name: str) -> int:
    return next(number for number, rooms in enumerate(LAYERS) if name.split(".")[0] in rooms)


def test_every_room_has_a_layer():
    assert {name.split(".")[0] for name in MODULES} - {"__init__"} == set().union(*LAYERS)


ROOMS = sorted({name.split(".")[0] for name in MODULES} - {"__init__"})


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_down(room):
    imports = [(module, name) for module in MODULES if _is_in(module, room) for name in _imported(MODULES[module])]
    for module, name in imports:
        other = name.split(".")[0]
        if other == "__version__":
            continue
        assert _layer(name) <= _layer(module), f"{module} imports {name}, which lies above it"
        if other != room and _layer(other) == _layer(room) and room in OF_ITS_OWN_LAYER:
            raise AssertionError(f"{module} imports {name}: {room} import nothing from {other}")
        if room == other == "tasks":
            tasks = (module.split(".")[1], name.split(".")[1])
            assert tasks[0] == tasks[1] or tasks in ALLOWED_BETWEEN_TASKS, f"{module} imports {name} of another task"


def test_the_exception_is_needed():
    """An exception that nobody uses any more goes."""
    edges = {
        (module.split(".")[1], name.split(".")[1])
        for module, file in MODULES.items()
        if module.startswith("tasks.")
        for name in _imported(file)
        if name.startswith("tasks.")
    }
    assert {(a, b) for a, b in edges if a != b} == ALLOWED_BETWEEN_TASKS


def test_a_file_holds_one_idea_in_300_lines():
    lines = {module: len(file.read_text(encoding="utf-8").splitlines()) for module, file in MODULES.items()}
    assert not {module: number for module, number in lines.items() if number > 300}
