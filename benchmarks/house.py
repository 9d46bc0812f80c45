"""Print figures of the structure of the package, and of its `runtime` folder: sizes, imports, callbacks, classes.

    python benchmarks/house.py                  # this checkout
    python benchmarks/house.py --root PATH      # another one
    python benchmarks/house.py --show           # and what stands behind the figures, line by line

It reads the source and runs none of it.

- **Code lines** are those that are not blank and hold more than a comment or a docstring. A bare string below an
  attribute is a docstring as well.
- **Arrows** are pairs of modules of which one imports the other, at the top, in a function or for typing alone. A
  room is a sub-folder; a module beside the rooms is in none. **Floors** are the modules on the longest way along the
  arrows; the modules of a **cycle** stand on one floor.
- **Attributes set from outside**: `x.y = ...` or `x.y += ...`, where `x` is not `self` or `cls`, and `y` is declared
  by a class of another module: the one that is named as `x` is (`floor`, `self._floor`: `Floor`). If none is, those
  that declare `y`, unless one of them stands in the same module. It goes by names, and knows no types.
- **Callbacks** are such attributes that hold something to call: a lambda, a `partial` or a function is assigned, or
  the attribute is declared as `Callable`, or it begins as a placeholder (a lambda, a bare type such as `int`, a
  function that does nothing).
- **Classes** are measured with their bases inside the package, without docstrings.
"""

import argparse
import ast
import io
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

PACKAGE = "openoutcry"
FOLDER = "runtime"
CLASS_LINES_MAX = 300
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
_EMPTY_TYPES = {"bool", "dict", "float", "frozenset", "int", "list", "set", "str", "tuple"}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Graph = dict[str, set[str]]


@dataclass(frozen=True)
class Module:
    """A file of the package."""

    name: str
    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def classes(self) -> list[ast.ClassDef]:
        return [node for node in self.nodes if isinstance(node, ast.ClassDef)]

    @cached_property
    def functions(self) -> list[Function]:
        return [node for node in self.nodes if isinstance(node, Function)]

    @property
    def lines_count(self) -> int:
        return len(self.text.splitlines())

    @property
    def code_lines_count(self) -> int:
        lines: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type not in _NO_CODE:
                lines.update(range(token.start[0], token.end[0] + 1))
        return len(lines - docstring_lines(self.tree))


def read(root: Path) -> list[Module]:
    """Return the modules of the package in a checkout."""
    folder = root / "src" / PACKAGE
    if not folder.is_dir():
        raise SystemExit(f"{root} has no src/{PACKAGE}; name the folder of a checkout")
    modules = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        modules.append(Module(".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return modules


def docstring_lines(tree: ast.AST) -> set[int]:
    """Return the numbers of the lines that hold bare strings."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


# -- imports --------------------------------------------------------------------------------------


def imports(modules: Sequence[Module]) -> Graph:
    """Return which modules of these each one imports."""
    names = {module.name for module in modules}
    return {module.name: _imported(module, names) - {module.name} for module in modules}


def _imported(module: Module, names: set[str]) -> set[str]:
    found = set()
    for node in module.nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(module, node)
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                found.add(inner if inner in names else source)
    return found & names


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    above = node.level - (module.path.name == "__init__.py")
    return ".".join([*parts[: len(parts) - above], *([node.module] if node.module else [])])


def rooms(graph: Graph, folder: str) -> Graph:
    """Return the imports between the sub-folders of a folder of the package; modules beside them are left out."""
    room_by_module = {}
    for name in graph:
        first, _, rest = name.removeprefix(folder).strip(".").partition(".")
        if rest:
            room_by_module[name] = room_by_module[f"{folder}.{first}"] = first
    found: Graph = defaultdict(set)
    for name, room in room_by_module.items():
        below = {room_by_module[other] for other in graph.get(name, ()) if other in room_by_module}
        found[room] |= below - {room}
    return dict(found)


def cycles(graph: Graph) -> list[set[str]]:
    """Return the groups of nodes that all reach each other."""
    reached = {name: _reached(graph, name) for name in graph}
    found: list[set[str]] = []
    for name in graph:
        if name in reached[name] and not any(name in group for group in found):
            found.append({other for other in reached[name] if name in reached[other]})
    return found


def _reached(graph: Graph, start: str) -> set[str]:
    found: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(graph[name])
    return found


def floors_count(graph: Graph) -> int:
    """Return how many nodes the longest way along the arrows passes; a cycle counts as one."""
    head = {name: name for name in graph}
    for group in cycles(graph):
        head.update(dict.fromkeys(group, min(group)))
    below: Graph = defaultdict(set)
    for name, others in graph.items():
        below[head[name]] |= {head[other] for other in others} - {head[name]}
    depths: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in depths:
            depths[name] = 1 + max((depth(other) for other in below[name]), default=0)
        return depths[name]

    return max((depth(name) for name in set(head.values())), default=0)


# -- attributes set from outside ------------------------------------------------------------------


class Slot(NamedTuple):
    """An attribute that a class declares."""

    module: str
    owner: str
    is_callable: bool
    is_placeholder: bool


class Setting(NamedTuple):
    """An assignment from outside: whose attribute, where, and whether it hands over something to call."""

    attribute: str
    place: str
    is_callback: bool


def declared_slots(modules: Sequence[Module]) -> dict[str, list[Slot]]:
    """Return, by the attribute's name, who declares it: in the class body or by `self.y = ...` in a method."""
    found: dict[str, list[Slot]] = defaultdict(list)
    for module in modules:
        idle = {function.name for function in module.functions if _does_nothing(function)}
        for owner in module.classes:
            for name, annotation, value in _declarations(owner):
                is_callable = annotation.strip("'\"").startswith("Callable")
                is_empty = isinstance(value, ast.Name) and is_callable and value.id in _EMPTY_TYPES | idle
                is_placeholder = isinstance(value, ast.Lambda) or is_empty
                found[name].append(
                    Slot(module.name, owner.name, is_callable or is_placeholder, is_placeholder)
                )
    return found


def _does_nothing(function: Function) -> bool:
    return all(
        isinstance(node, ast.Pass)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.Return) and (node.value is None or isinstance(node.value, ast.Constant)))
        for node in function.body
    )


def _declarations(owner: ast.ClassDef) -> Iterator[tuple[str, str, ast.expr | None]]:
    inner = {id(node) for child in owner.body if isinstance(child, ast.ClassDef) for node in ast.walk(child)}
    for node in ast.walk(owner):
        if id(node) in inner:
            continue
        for target, value in _assigned(node):
            annotation = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
            if isinstance(target, ast.Attribute) and _is_own(target):
                yield target.attr, annotation, value
            elif isinstance(target, ast.Name) and node in owner.body:
                yield target.id, annotation, value


def _assigned(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """Yield each target of an assignment with its value; a tuple's values are taken apart if they stand there."""
    if isinstance(node, ast.AnnAssign):
        yield node.target, node.value
    elif isinstance(node, ast.AugAssign):
        yield node.target, None
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            if not isinstance(target, ast.Tuple):
                yield target, node.value
            elif isinstance(node.value, ast.Tuple):
                yield from zip(target.elts, node.value.elts, strict=False)
            else:
                yield from ((inner, None) for inner in target.elts)


def _is_own(target: ast.Attribute) -> bool:
    return isinstance(target.value, ast.Name) and target.value.id in {"self", "cls"}


def settings(modules: Sequence[Module], inside: Sequence[Module]) -> list[Setting]:
    """Return the attributes of classes of `modules` that other modules set, as far as these are `inside`."""
    slots = declared_slots(modules)
    callables = {function.name for module in modules for function in module.functions} - _properties(modules)
    found = []
    for module in inside:
        for node in module.nodes:
            for target, value in _assigned(node):
                if not isinstance(target, ast.Attribute) or _is_own(target):
                    continue
                hands_over = _is_callable(value, callables)
                owners = _owners(target, slots.get(target.attr, []), module, hands_over=hands_over)
                if owners:
                    names = "|".join(sorted({slot.owner for slot in owners}))
                    is_callback = hands_over or all(slot.is_callable for slot in owners)
                    place = f"{module.name}:{target.lineno}"
                    found.append(Setting(f"{names}.{target.attr}", place, is_callback))
    return found


def _properties(modules: Sequence[Module]) -> set[str]:
    return {
        function.name
        for module in modules
        for function in module.functions
        if any("property" in ast.unparse(decorator) for decorator in function.decorator_list)
    }


def _owners(
    target: ast.Attribute, slots: Sequence[Slot], module: Module, *, hands_over: bool
) -> Sequence[Slot]:
    """Return the declarations that the assignment may mean, none if one stands in the same module.

    `hands_over` says that it assigns something to call.
    """
    whose = target.value.attr if isinstance(target.value, ast.Attribute) else ast.unparse(target.value)
    named = [slot for slot in slots if slot.owner.lower() == whose.replace("_", "").lower()]
    to_call = [slot for slot in slots if slot.is_callable] if hands_over else []
    owners = named or to_call or slots
    return [] if any(slot.module == module.name for slot in owners) else owners


def _is_callable(value: ast.expr | None, callables: set[str]) -> bool:
    if isinstance(value, ast.IfExp):
        return _is_callable(value.body, callables) or _is_callable(value.orelse, callables)
    if isinstance(value, ast.Call):
        return ast.unparse(value.func) in {"partial", "functools.partial"}
    if isinstance(value, ast.Attribute):
        return value.attr in callables
    return isinstance(value, ast.Lambda)


def placeholders(modules: Sequence[Module], inside: Sequence[Module]) -> set[str]:
    """Return the attributes that begin as a placeholder."""
    names = {module.name for module in inside}
    return {
        f"{slot.owner}.{name}"
        for name, slots in declared_slots(modules).items()
        for slot in slots
        if slot.is_placeholder and slot.module in names
    }


# -- sizes ----------------------------------------------------------------------------------------


class Size(NamedTuple):
    """How many lines something has; of a class also how many public methods."""

    lines_count: int
    name: str
    public_count: int = 0


def class_sizes(modules: Sequence[Module], inside: Sequence[Module]) -> list[Size]:
    """Return the classes of `inside` with their bases among `modules`, the largest first."""
    known = {owner.name: owner for module in modules for owner in module.classes}
    found = []
    for module in inside:
        for owner in module.classes:
            parts = _with_bases(owner, known)
            methods = {node.name for part in parts for node in part.body if isinstance(node, Function)}
            public_count = sum(not name.startswith("_") for name in methods)
            found.append(Size(sum(map(_own_lines, parts)), owner.name, public_count))
    return sorted(found, reverse=True)


def _with_bases(owner: ast.ClassDef, known: dict[str, ast.ClassDef]) -> list[ast.ClassDef]:
    found, waiting = [], [owner]
    while waiting:
        part = waiting.pop()
        if part not in found:
            found.append(part)
            names = [ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in part.bases]
            waiting.extend(known[name] for name in names if name in known)
    return found


def _own_lines(node: ast.ClassDef | Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1 - len(docstring_lines(node))


def largest_function(modules: Iterable[Module]) -> Size:
    """Return the longest function, without docstrings and without the functions in it."""
    found = []
    for module in modules:
        for function in module.functions:
            inner = [n for n in function.body if isinstance(n, Function)]
            found.append(
                Size(_own_lines(function) - sum(map(_own_lines, inner)), f"{module.name}.{function.name}")
            )
    return max(found)


# -- the report -----------------------------------------------------------------------------------


def report(root: Path, *, is_shown: bool) -> str:
    """Return all figures as text."""
    modules = read(root)
    folder = f"{PACKAGE}.{FOLDER}"
    inside = [module for module in modules if f"{module.name}.".startswith(f"{folder}.")]
    lines = [f"{'':<24}{'files':>7}{'lines':>8}{'code':>8}{'arrows':>8}{'floors':>8}{'cycles':>8}"]
    for name, some in ((PACKAGE, modules), (folder, inside)):
        if not some:
            raise SystemExit(f"{root} has no {name.replace('.', '/')}; name the folder of a checkout")
        total, code = sum(m.lines_count for m in some), sum(m.code_lines_count for m in some)
        lines.append(f"{name:<24}{len(some):>7}{total:>8}{code:>8}" + _shape(imports(some)))
        between = rooms(imports(some), name)
        lines.append(f"  {f'rooms in it: {len(between)}':<22}{'':>23}" + _shape(between))
        if is_shown:
            lines += [
                f"    {room} -> {', '.join(sorted(below))}"
                for room, below in sorted(between.items())
                if below
            ]
            lines += [f"    cycle: {', '.join(sorted(group))}" for group in cycles(imports(some))]
    return "\n".join([*lines, "", *_wiring(modules, inside, is_shown=is_shown), "", *_sizes(modules, inside)])


def _shape(graph: Graph) -> str:
    arrows_count = sum(len(others) for others in graph.values())
    return f"{arrows_count:>8}{floors_count(graph):>8}{len(cycles(graph)):>8}"


def _wiring(modules: Sequence[Module], inside: Sequence[Module], *, is_shown: bool) -> list[str]:
    places: dict[str, list[str]] = defaultdict(list)
    found = settings(modules, inside)
    for setting in found:
        places[setting.attribute].append(setting.place.removeprefix(f"{PACKAGE}.{FOLDER}."))
    callbacks = sorted({setting.attribute for setting in found if setting.is_callback})
    begun = placeholders(modules, inside)
    lines = [
        f"attributes set from outside     {len(places)}",
        f"  callbacks among them          {len(callbacks)}",
        f"  that begin as a placeholder   {len(begun & set(callbacks))}",
    ]
    if is_shown:
        lines += [f"    {name:<36}{', '.join(places[name])}" for name in callbacks]
    return lines


def _sizes(modules: Sequence[Module], inside: Sequence[Module]) -> list[str]:
    large = [size for size in class_sizes(modules, inside) if size.lines_count > CLASS_LINES_MAX]
    file = max(Size(module.lines_count, module.name) for module in inside)
    function = largest_function(inside)
    return [
        f"classes over {CLASS_LINES_MAX} lines          {len(large)}",
        *(f"    {size.name:<28}{size.lines_count}, {size.public_count} public methods" for size in large),
        f"largest file                    {file.name}, {file.lines_count} lines",
        f"largest function                {function.name}, {function.lines_count} lines",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = Path(__file__).resolve().parent.parent
    parser.add_argument(
        "--root", type=Path, default=here, help="the folder of a checkout (default: this one)"
    )
    parser.add_argument(
        "--show", action="store_true", help="list the arrows between rooms, and the callbacks"
    )
    given = parser.parse_args(arguments)
    print(report(given.root, is_shown=given.show))


if __name__ == "__main__":
    main()
