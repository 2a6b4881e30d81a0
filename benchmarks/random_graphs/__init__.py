"""Random valid graphs over the whole instruction set, and what must hold of them.

``python -m benchmarks.random_graphs --torch 10000 --host 1000 --arm 100``

``generator`` draws a graph, with ``recipes`` for the instructions whose operands must
fit each other; ``values`` has the numbers that go in; ``checks`` and ``compiled`` are
what must hold.
"""
