"""Files of the package build on each other in one direction, and say so at their top."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import modeling_chexficient

PACKAGE = Path(modeling_chexficient.__file__).parent


def own_imports(tree: ast.AST) -> Iterator[str]:
    """Names of the files of this package that are imported anywhere below `tree`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        module = node.module or ""
        if node.level == 0 and module.split(".")[0] != PACKAGE.name:
            continue
        if node.level == 0:
            module = module.removeprefix(PACKAGE.name).removeprefix(".")
        # Of `from . import file` the names are the files.
        yield from [module] if module else [alias.name for alias in node.names]


def late_imports(tree: ast.Module) -> list[str]:
    """What functions and methods import of this package."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [name for function in functions for name in own_imports(function)]


TREES = {path.stem: ast.parse(path.read_text()) for path in sorted(PACKAGE.glob("*.py"))}


def test_own_imports_stand_at_the_top():
    assert len(TREES) > 15
    assert {name: found for name, tree in TREES.items() if (found := late_imports(tree))} == {}


def test_there_is_no_circle():
    graph = {name: set(own_imports(tree)) for name, tree in TREES.items()}
    assert "towers_chexficient" in graph["modeling_chexficient_heads"]
    list(TopologicalSorter(graph).static_order())


def test_towers_are_below():
    graph = {name: set(own_imports(tree)) for name, tree in TREES.items()}
    below = {"configuration_chexficient", "davit_chexficient", "peft_folders_chexficient"}
    assert graph["towers_chexficient"] == below
    assert graph["davit_chexficient"] == set()
    assert graph["tasks_chexficient"] == set()


def test_what_would_be_found():
    late = ast.parse("def save():\n    from .modeling_chexficient_heads import HEADS\n")
    assert late_imports(late) == ["modeling_chexficient_heads"]
    with pytest.raises(CycleError):
        list(TopologicalSorter({"a": {"b"}, "b": {"a"}}).static_order())
