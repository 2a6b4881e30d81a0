"""Instruction graphs with their shapes, as wide as the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import indent, wrap
from typing import TYPE_CHECKING

from gos_fx.tables import Found, table

if TYPE_CHECKING:
    from rich.console import Console

    from gos_fx.ir.graph import Graph


def show_graphs(out: Console, found: Found) -> None:
    """Each graph once, under the names of all operators that have it."""
    groups: dict[str, list[Found]] = {}
    for row in found["operators"]:
        groups.setdefault(row[found["shown"]], []).append(row)
    for rows in groups.values():
        for row in rows:
            out.print(_head(row, found["shown"], out.width), soft_wrap=True)
        out.print(_graph(rows[0][found["shown"]], out.width), soft_wrap=True)
        out.print()
    if found["not_lowered"]:
        cells = [(row["name"], row["reason"]) for row in found["not_lowered"]]
        out.print(table("", ("no instruction graph|", "why|"), cells))
    if found["operator"] is None:
        out.print(
            f"{found['lowered']} of {found['count']} operators are instruction graphs "
            f"({100 * found['coverage']:.1f} %)."
        )


def _head(row: Found, shown: str, width: int) -> str:
    text = row["name"]
    if len(row["modules"]) > 1:
        text += f" with {', '.join(row['modules'][1:])}"
    if shown == "template":
        text += ": " + ", ".join(f"{k}={v}" for k, v in row["sizes"].items())
    lines = wrap(
        text,
        width,
        initial_indent="# ",
        subsequent_indent="#   ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


def _graph(text: str, width: int) -> str:
    from gos_fx.ir.parser import parse

    return annotated(parse(text), width)


def annotated(graph: Graph, width: int) -> str:
    """The text of a graph with the type of each value behind it; it parses back."""
    return "\n".join(_lines(graph, graph.name, width))


def _lines(graph: Graph, name: str, width: int) -> list[str]:
    from gos_fx.ir.printer import arguments, body_names, parameter

    inputs = [parameter(value) for value in graph.maps]
    if graph.weights:
        inputs += ["*", *(parameter(value) for value in graph.weights)]
    lines = _call(f"def {name}", inputs, f" -> {graph.result}:", width)
    bodies = body_names(graph)
    for body, its_name in bodies.items():
        inner = "\n".join(_lines(body, its_name, width - 4))
        lines += indent(inner, "    ").splitlines()
    calls = []
    for node in graph.nodes:
        head, comment = f"    {node.name} = {node.opcode}", f"  # {node.type}"
        calls.append((_call(head, arguments(node, bodies), "", width), comment))
    fitting = [len(c[-1]) for c, more in calls if len(c[-1]) + len(more) <= width]
    column = max(fitting, default=0)
    for call, comment in calls:
        fits = column + len(comment) <= width
        lines += [*call[:-1], (call[-1].ljust(column) if fits else call[-1]) + comment]
    return [*lines, f"    return {graph.output}"]


def _call(head: str, arguments: Sequence[str], tail: str, width: int) -> list[str]:
    """One line, or the arguments in lines of their own."""
    line = f"{head}({', '.join(arguments)}){tail}"
    if len(line) <= width or not arguments:
        return [line]
    margin = " " * (len(head) - len(head.lstrip()))
    inner = [f"{margin}    {arguments[0]}"]
    for argument in arguments[1:]:
        if len(inner[-1]) + len(argument) + 3 <= width:  # a comma behind it too
            inner[-1] += f", {argument}"
        else:
            inner[-1] += ","
            inner.append(f"{margin}    {argument}")
    return [f"{head}(", *inner, f"{margin}){tail}"]
