"""Learning quantized neural nets by coarse gradient method for non-linear classification.

Z. Long, P. Yin, J. Xin 2020, arXiv:2011.11256.
"""

ITEMS = ("lemmas", "fig3", "stes", "table2", "fig5", "fig6")
"""The items, in the paper's order; each is a module of this folder."""
