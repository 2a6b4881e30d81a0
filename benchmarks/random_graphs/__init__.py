"""Random valid graphs over the whole instruction set, and what must hold of them.

``python -m benchmarks.random_graphs --torch 10000 --host 1000 --arm 100``

``generator`` gives the graph of a seed. It grows in ``draw``, by the ``declared``
operands and attributes of each instruction or by a recipe of ``arithmetic``,
``images``, ``moving``, ``matrices`` or ``cells``, and has one output by ``ending``;
``values`` has the numbers that go in. ``checks`` and ``compiled`` are what must hold.
"""
