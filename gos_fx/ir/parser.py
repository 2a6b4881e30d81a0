"""Text -> Graph. The text is parsed as syntax and never run."""

from __future__ import annotations

import ast
from typing import Any

from gos_fx.errors import ParseError
from gos_fx.ir.builder import Builder
from gos_fx.ir.dim import dim_of
from gos_fx.ir.graph import Graph
from gos_fx.ir.opcode import OPCODES
from gos_fx.ir.projection import PROJECTIONS, Projection
from gos_fx.ir.types import DTYPES, ROLES, Type, bundle


def parse(text: str) -> Graph:
    """The graph that printed as ``text``.

    Raises:
        ParseError: not the text form of a graph (line and reason).
        VerifyError: an instruction does not take its operands.
    """
    try:
        match ast.parse(text).body:
            case [ast.FunctionDef() as function]:
                return _graph(function)
    except (SyntaxError, ValueError, MemoryError) as error:
        raise ParseError(f"not a graph: {error}", where="graph text") from error
    except RecursionError as error:
        raise ParseError("nested too deeply", where="graph text") from error
    raise ParseError("expected one def", where="graph text")


def _graph(function: ast.FunctionDef) -> Graph:
    declared = function.args
    if (
        function.decorator_list
        or getattr(function, "type_params", [])  # from Python 3.12 on
        or (declared.posonlyargs or declared.vararg or declared.kwarg)
        or declared.defaults
    ):
        raise _error("expected feature maps, a star, weights", function)
    builder = Builder(function.name)
    for argument in declared.args:
        builder.input(argument.arg, _type(argument.annotation))
    for argument, default in zip(
        declared.kwonlyargs, declared.kw_defaults, strict=True
    ):
        init = None if default is None else _projection(default)
        builder.input(argument.arg, _type(argument.annotation), init)
    *statements, last = function.body
    bodies: dict[str, Graph] = {}
    for statement in statements:
        match statement:
            case ast.FunctionDef(name=name) as body if name not in bodies:
                bodies[name] = _graph(body)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call):
                _instruction(builder, name, call, bodies)
            case _:
                raise _error("expected an instruction", statement)
    match last:
        case ast.Return(value=ast.Name(id=output)) if output in builder.types:
            pass
        case _:
            raise ParseError("no value is returned", where=function.name)
    graph = builder.build(output)
    promised = _type(function.returns)
    if promised != graph.result:
        raise ParseError(
            f"declared to return {promised}, but returns {graph.result}",
            where=function.name,
        )
    return graph


def _instruction(
    builder: Builder, name: str, call: ast.Call, bodies: dict[str, Graph]
) -> None:
    match call:
        case ast.Call(func=ast.Name(id=opcode)) if opcode in OPCODES:
            pass
        case _:
            raise _error("unknown instruction", call)
    operands = []
    for argument in call.args:
        if not isinstance(argument, ast.Name) or argument.id not in builder.types:
            raise _error("an operand must be an earlier value", argument)
        operands.append(argument.id)
    attributes = {}
    for keyword in call.keywords:
        if keyword.arg is None:
            raise _error("attributes are written out", call)
        match keyword.value:
            case ast.Name(id=body) if _takes_graph(opcode, keyword.arg):
                if body not in bodies:
                    raise _error("there is no body of this name", keyword.value)
                attributes[keyword.arg] = bodies[body]
            case _:
                attributes[keyword.arg] = _literal(keyword.value)
    builder.append(opcode, operands, attributes, name)


def _takes_graph(opcode: str, key: str) -> bool:
    attribute = OPCODES[opcode].attributes.get(key)
    return attribute is not None and attribute.kind == "graph"


def _type(node: ast.expr | None) -> Type:
    match node:
        case ast.Tuple(elts=[_, *_] as parts):
            return bundle([_type(part) for part in parts])
        case ast.Subscript(value=ast.Name(id=role), slice=index) if role in ROLES:
            items = list(index.elts) if isinstance(index, ast.Tuple) else [index]
        case _:
            expected = ", ".join(f"{role}[...]" for role in ROLES)
            raise ParseError(f"expected one of {expected}, or several in brackets")
    dtype = "float32"
    match items:
        case [*_, ast.Name(id=name)] if name in DTYPES:
            dtype, items = name, items[:-1]
    if items and isinstance(items[0], ast.Tuple) and not items[0].elts:
        items = items[1:]  # role[()]: a value without axes
    return Type(role, tuple(dim_of(item) for item in items), dtype)


def _projection(node: ast.expr) -> Projection:
    match node:
        case ast.Call(func=ast.Name(id=name)) if name in PROJECTIONS:
            sources = tuple(
                a.id if isinstance(a, ast.Name) else _projection(a) for a in node.args
            )
            if any(keyword.arg is None for keyword in node.keywords):
                raise _error("parameters are written out", node)
            parameters = tuple((str(k.arg), _literal(k.value)) for k in node.keywords)
            return Projection(name, sources, parameters)
    raise _error("unknown projection", node)


def _literal(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=bool() | float() | str() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=float() as value)):
            return -value
        case ast.Tuple(elts=items):
            return tuple(_literal(item) for item in items)
    return dim_of(node)


def _error(what: str, node: ast.AST) -> ParseError:
    return ParseError(f"{what}: {ast.unparse(node)}", f"line {node.lineno}")  # type: ignore[attr-defined]
