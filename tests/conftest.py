from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """The tests run in parallel, a process a core; torch's own threads would only fight."""
    import torch

    torch.set_num_threads(1)
