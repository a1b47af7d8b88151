"""Which nodes wait for which: order, cycles, and nodes that can never run. Pure.

A loop is one node here; the nodes inside it are a graph of their own.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

import networkx as nx

from contracts.v1.node import RESERVED, FedNode, ForEachNode, Node
from plugins.api.document import Path

Branch = tuple[str, str]
"""A condition and the branch that is taken: ("high", "then")."""


class Need(NamedTuple):
    """A node needs another. branch: of a condition, the one that must be taken. field: where the node says so."""

    name: str
    branch: str | None
    field: Path


def references(node: Node) -> Iterator[tuple[Path, str]]:
    """The references of a node to values of its own level, with the field of each."""
    if isinstance(node, FedNode):
        for name, reference in node.inputs.items():
            yield ("inputs", name), reference
    if isinstance(node, ForEachNode):
        yield ("items",), node.items


def needs(node: Node) -> Iterator[Need]:
    """The nodes that must be settled before this one is looked at."""
    for field, reference in references(node):
        owner = reference.partition(".")[0]
        if owner not in RESERVED:
            yield Need(owner, None, field)
    for place, predecessor in enumerate(node.after):
        owner, _, branch = predecessor.partition(".")
        yield Need(owner, branch or None, ("after", place))


class Graph:
    """The nodes of one level. What they need and there is not is left out, and so is what closes a cycle.

    cycles: of each group of nodes that wait for one another one: [a, b] means a -> b -> a; in the nodes' order.
    """

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes
        known = {name: [need for need in needs(node) if need.name in nodes] for name, node in nodes.items()}
        whole = _graph_of(known)
        groups = list(nx.strongly_connected_components(whole))
        group_of = {name: place for place, group in enumerate(groups) for name in group}
        self.cycles = _cycles(whole, groups, list(nodes))
        self.needs: dict[str, tuple[Need, ...]] = {
            name: tuple(need for need in needed if group_of[need.name] != group_of[name])
            for name, needed in known.items()
        }

    @cached_property
    def before(self) -> dict[str, frozenset[str]]:
        """For each node those that are settled before it, whatever happens."""
        found: dict[str, frozenset[str]] = {}
        for name in self.order:
            needed = {need.name for need in self.needs[name]}
            found[name] = frozenset(needed).union(*(found[one] for one in needed))
        return found

    @cached_property
    def order(self) -> list[str]:
        """The nodes, each behind what it needs."""
        return list(nx.topological_sort(_graph_of(self.needs)))

    @cached_property
    def branches(self) -> dict[str, frozenset[Branch]]:
        """The branches that must have been taken for each node to run."""
        found: dict[str, frozenset[Branch]] = {}
        for name in self.order:
            each = [
                found[need.name] | ({(need.name, need.branch)} if need.branch else set()) for need in self.needs[name]
            ]
            joined = frozenset.intersection if self._nodes[name].join == "any" else frozenset.union
            found[name] = joined(*map(frozenset, each)) if each else frozenset()
        return found

    def never(self, untaken: frozenset[Branch]) -> dict[str, str]:
        """Nodes that can never run, with the reason. untaken: branches never taken."""
        found: dict[str, str] = {}
        branches = self.branches
        for name in self.order:
            reasons = [_reason(need, found, untaken) for need in self.needs[name]]
            told = [reason for reason in reasons if reason]
            if told and (self._nodes[name].join == "all" or len(told) == len(reasons)):
                found[name] = told[0]
            elif both := _both(branches[name]):
                found[name] = f"it needs both branches of {both}, and only one is taken"
        return found


def _reason(need: Need, never: Mapping[str, str], untaken: frozenset[Branch]) -> str | None:
    if need.name in never:
        return f"it needs {need.name}, which never runs"
    if need.branch and (need.name, need.branch) in untaken:
        return f"{need.name}.{need.branch} is never taken"
    return None


def _both(branches: frozenset[Branch]) -> str | None:
    taken = sorted(condition for condition, branch in branches if branch == "then")
    return next((condition for condition in taken if (condition, "else") in branches), None)


def _graph_of(needed: Mapping[str, Iterable[Need]]) -> "nx.DiGraph[str]":
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(needed)
    graph.add_edges_from((need.name, name) for name, those in needed.items() for need in those)
    return graph


def _cycles(graph: "nx.DiGraph[str]", groups: Iterable[set[str]], names: list[str]) -> list[list[str]]:
    places = {name: place for place, name in enumerate(names)}
    found = []
    for group in groups:
        first = min(group, key=places.__getitem__)
        if len(group) > 1 or graph.has_edge(first, first):
            found.append([edge[0] for edge in nx.find_cycle(graph.subgraph(group), first)])
    return sorted((_turned(cycle, places) for cycle in found), key=lambda cycle: places[cycle[0]])


def _turned(cycle: list[str], places: Mapping[str, int]) -> list[str]:
    at = cycle.index(min(cycle, key=places.__getitem__))
    return cycle[at:] + cycle[:at]


def cycle_text(cycle: list[str]) -> str:
    """`a -> b -> a`."""
    return " -> ".join([*cycle, cycle[0]])


def exclusive(one: frozenset[Branch], other: frozenset[Branch]) -> bool:
    """Whether only one of two nodes can run, since they stand on different branches of a condition."""
    return _both(one | other) is not None


def callers_in_circle(start: str, calls: Mapping[str, frozenset[str]]) -> list[str] | None:
    """A circle of pipelines that run one another and that leads through `start`; None if there is none."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_edges_from((name, called) for name, those in calls.items() for called in sorted(those))
    for called in sorted(calls.get(start, ())):
        if called == start:
            return [start]
        if graph.has_node(called) and nx.has_path(graph, called, start):
            return [start, *nx.shortest_path(graph, called, start)[:-1]]
    return None
