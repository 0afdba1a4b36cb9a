"""BAMSProd: a step towards generalizing the adaptive optimization methods to deep binary model.

J. Liu, D. Wen, D. Wang, W. Tao, T.-W. Chen, K. Osa, M. Kato, CVPRW 2020, arXiv:2009.13799.
"""

ITEMS = ("fig1", "counterexamples", "stochastic", "clipping", "monitors", "bounds", "training")
"""The items, in the paper's order; each is a module of this folder."""
