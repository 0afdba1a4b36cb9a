"""Convergence of a relaxed variable splitting coarse gradient descent method.

T. Dinh, J. Xin 2020, Front. Appl. Math. Stat. 6:13.
"""

ITEMS = ("table1",)
"""The items, in the paper's order; each is a module of this folder."""
