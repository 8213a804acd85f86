"""Every function says what it takes and returns, and every public one, beginning with a verb, what it does."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("nnunet_xmodal", "trainers", "planners", "benchmarks")

VERBS = set(
    """
    Add Apply Attend Average Begin Build Call Check Choose Compare Compute Continue Convert Convolve Count Cut
    Declare Delete Describe Do Draw End Explain Export Find Finish Fit Follow Freeze Fuse Gate Give Go Hold
    Import Initialise Invert Join Keep Kill Let Load Log Look Make Map Mark Measure Mirror Mix Multiply Name
    Note Number Open Order Pad Parse Paste Place Predict Prepare Preprocess Print Put Raise Read Reconstruct
    Record Reduce Refuse Register Remark Remove Rename Replace Report Resample Rescale Restore Return Reverse
    Round Run Save Say Scale Score Segment Select Send Set Show Sort Start Stop Submit Switch Synthesise Take
    Tell Train Trust Turn Undo Update Use Validate Wait Walk Weigh Write Yield
    """.split()
)
"""What docstrings begin with; a verb that is missing here is added."""


class Function(NamedTuple):
    """A function of a file.

    Attributes:
        public: it, its class and its module can be called from outside.
        of_class: it is a method.
    """

    name: str
    node: ast.FunctionDef | ast.AsyncFunctionDef
    public: bool
    of_class: bool


def functions(node: ast.AST, name: str = "", public: bool = True, of_class: bool = False) -> Iterator[Function]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            called = f"{name}{child.name}"
            yield Function(called, child, public and not child.name.startswith("_"), of_class)
            yield from functions(child, f"{called}.", public=False)
        elif isinstance(child, ast.ClassDef):
            yield from functions(child, f"{name}{child.name}.", public and not child.name.startswith("_"), True)
        else:
            yield from functions(child, name, public, of_class)


def missing_hints(function: Function) -> list[str]:
    """Return the parameters without a hint, and "return" for a result without one."""
    given = function.node.args
    parameters = [*given.posonlyargs, *given.args]
    if function.of_class and not _is_decorated(function, "staticmethod"):
        parameters = parameters[1:]  # self, cls
    parameters += [*given.kwonlyargs, *(one for one in (given.vararg, given.kwarg) if one)]
    missing = [one.arg for one in parameters if one.annotation is None]
    return missing if function.node.returns else [*missing, "return"]


def is_told(function: Function) -> bool:
    """Tell whether the docstring begins with a verb; a setter's is that of its property."""
    words = (ast.get_docstring(function.node) or "").split()
    return bool(words and words[0].rstrip(",:") in VERBS) or _is_decorated(function, "setter")


def _is_decorated(function: Function, by: str) -> bool:
    return by in [getattr(one, "attr", getattr(one, "id", None)) for one in function.node.decorator_list]


def functions_of(folder: str) -> Iterator[tuple[str, Function]]:
    for file in sorted((ROOT / folder).rglob("*.py")):
        for function in functions(ast.parse(file.read_text(encoding="utf-8"))):
            yield f"{file.relative_to(ROOT)}:{function.node.lineno} {function.name}", function


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_parameter_and_every_result_has_a_type_hint(folder):
    found = [(place, missing_hints(function)) for place, function in functions_of(folder)]
    assert found
    assert not [f"{place}: {', '.join(missing)}" for place, missing in found if missing]


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_of_public_functions_begin_with_a_verb(folder):
    assert not [place for place, function in functions_of(folder) if function.public and not is_told(function)]


SOURCE = '''
def bare(a, *, b: int = 0, **others): ...

def whole(a: int, *others: str) -> None:
    """Do it."""
    def inner(x): ...

class Some:
    def __init__(self, a: int): ...
    @staticmethod
    def of(first) -> None:
        """The first."""
    @property
    def size(self) -> int:
        """Return it."""
    @size.setter
    def size(self, size: int) -> None: ...
    def told(self) -> None: ...

if True:
    class _Hidden:
        def method(self, x) -> None: ...
'''


def test_what_is_missing_is_found():
    found = {function.name: missing_hints(function) for function in functions(ast.parse(SOURCE))}
    assert {name: missing for name, missing in found.items() if missing} == {
        "bare": ["a", "others", "return"],
        "whole.inner": ["x", "return"],
        "Some.__init__": ["return"],
        "Some.of": ["first"],
        "_Hidden.method": ["x"],
    }
    assert [f.name for f in functions(ast.parse(SOURCE)) if f.public and not is_told(f)] == [
        "bare",
        "Some.of",
        "Some.told",
    ]
