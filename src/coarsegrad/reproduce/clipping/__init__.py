"""Why gradient clipping accelerates training: a theoretical justification for adaptivity.

J. Zhang, T. He, S. Sra, A. Jadbabaie, ICLR 2020, arXiv:1905.11881; equations are numbered as in the
article on it that our specification was made from.
"""

ITEMS = ("functions", "steps", "duel", "tuned", "fit", "fig1")
"""The items; each is a module of this folder. ``duel`` is the class experiment."""
