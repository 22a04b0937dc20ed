"""Reads from a module's source what it declares: constants, enumerations, dataclasses with their fields.

PyTorch and transformers take seconds to import; the names and types of flags, and their help, should not. Only what is
asked for is evaluated, with what it needs: modules of the standard library are imported, other modules of the same
package and of transformers are read in the same way, anything else is a stand-in. Of a class there are its assignments,
and methods that do nothing; a dataclass of this package has its methods, which check the values that it is made of.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_READ = ("sp_hf", "transformers")
_IMPORTED = ("sp_hf.errors",)  # light themselves, and caught by type
_METHOD = ast.parse("def method(*_, **__): pass").body[0]


class DeclarationError(ImportError):
    """The source does not declare this name, or in a way that cannot be read."""


class StandIn(type):
    """A type in place of something that was not imported; its attributes and what calling it gives are itself."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls

    def __call__(cls, *_: Any, **__: Any) -> Any:
        return cls


def declared(module: str, name: str) -> Any:
    """The value of a name at the top of a module.

    Args:
        module: with its package, such as ``"transformers.training_args"``.
        name: a constant, class or function there.

    Raises:
        DeclarationError: it is not there, or cannot be read.
    """
    return _module(module).value(name)


class _Module:
    """One module's source; values are made when they are asked for, once."""

    def __init__(self, name: str) -> None:
        self._name, self._path = name, _source(name)
        self._is_package = self._path.name == "__init__.py"
        self._bindings = {bound: node for node in _statements(_parse(self._path)) for bound in _bound(node)}
        self._values: dict[str, Any] = {}

    def value(self, name: str) -> Any:
        if name not in self._values:
            if name not in self._bindings:
                raise DeclarationError(f"{self._path} does not declare {name}")
            self._values[name] = StandIn(name, (), {})  # of itself, where it needs itself
            self._values[name] = self._evaluate(name, self._bindings[name])
        return self._values[name]

    def _evaluate(self, name: str, node: ast.stmt) -> Any:
        if isinstance(node, ast.Import):
            alias = next(alias for alias in node.names if name in (alias.asname, alias.name.partition(".")[0]))
            if not _is_standard(alias.name):
                return StandIn(name, (), {})
            module = importlib.import_module(alias.name)
            return module if alias.asname else sys.modules[name]
        if isinstance(node, ast.ImportFrom):
            return self._imported(next(a.name for a in node.names if name in (a.asname, a.name)), node)
        return self._run(name, _without_work(node, self._name.startswith("sp_hf.")))

    def _imported(self, name: str, node: ast.ImportFrom) -> Any:
        package = self._name.split(".")[: None if self._is_package else -1]
        base = package[: len(package) - node.level + 1] if node.level else []
        module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
        if _is_standard(module) or module in _IMPORTED:
            return getattr(importlib.import_module(module), name)
        if module.partition(".")[0] not in _READ:
            return StandIn(name, (), {})
        try:
            return declared(module, name)
        except DeclarationError:
            return _module(f"{module}.{name}") if _exists(f"{module}.{name}") else StandIn(name, (), {})

    def _run(self, name: str, node: ast.stmt) -> Any:
        wanted = {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}
        known = {one: self.value(one) for one in wanted & self._bindings.keys() - {name}}
        namespace = {"__name__": self._name, **known}
        try:
            exec(compile(ast.Module([node], []), str(self._path), "exec", dont_inherit=True), namespace)
        except Exception as error:  # whatever a declaration that is not understood raises
            raise DeclarationError(f"{self._path}: {name} cannot be read ({error})") from error
        return namespace[name]

    def __getattr__(self, name: str) -> Any:
        """Of a module that another one imports whole."""
        if name.startswith("_"):
            raise AttributeError(name)
        return self.value(name)


_module = functools.cache(_Module)


def _source(name: str) -> Path:
    top, *inner = name.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        raise DeclarationError(f"there is no package {top}")
    path = Path(spec.submodule_search_locations[0], *inner)
    for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
        if file.is_file():
            return file
    raise DeclarationError(f"there is no module {name}")


def _exists(name: str) -> bool:
    try:
        return _source(name).is_file()
    except DeclarationError:
        return False


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names


def _statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """Those at the top, and within its conditions; what is last counts, as when it is run."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.If, ast.Try)):
            yield from _statements(node)
        elif isinstance(node, ast.stmt):
            yield node


def _bound(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _without_work(node: ast.stmt, ours: bool) -> ast.stmt:
    """A class whose methods are empty, or of our own dataclasses, a function and an assignment without types."""
    if isinstance(node, ast.ClassDef):
        keeps = ours and any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
        body = [_untyped(one) if keeps and isinstance(one, ast.FunctionDef) else _empty(one) for one in node.body]
        node = ast.ClassDef(**{**vars(node), "body": body})
    elif isinstance(node, ast.FunctionDef):
        node = _untyped(node)
        node.decorator_list = []
    elif isinstance(node, ast.AnnAssign):
        node = ast.Assign([node.target], node.value or ast.Constant(None))
    return ast.fix_missing_locations(node)


def _untyped(node: ast.FunctionDef) -> ast.FunctionDef:
    """Its annotations left out, which name what need not be read."""
    for one in ast.walk(node):
        if isinstance(one, ast.arg):
            one.annotation = None
        elif isinstance(one, ast.FunctionDef):
            one.returns = None
    return node


def _empty(node: ast.stmt) -> ast.stmt:
    """Of a class's body: assignments and its docstring as they are, methods that do nothing, and nothing else."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return ast.FunctionDef(**{**vars(_METHOD), "name": node.name})
    return node if isinstance(node, (ast.Assign, ast.AnnAssign, ast.Expr)) else ast.Pass()
