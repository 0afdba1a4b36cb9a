"""Convergence of a relaxed variable splitting coarse gradient descent method.

T. Dinh, J. Xin 2020, Frontiers in Applied Mathematics and Statistics 6:13.
"""

ITEMS = ("moments", "descent", "limit", "support", "fig4", "table1")
"""The items, in the paper's order; each is a module of this folder."""
