from __future__ import annotations

import pytest
import torch

from coarsegrad.nn import NormalizedBatchNorm


@pytest.mark.parametrize("shape", [(8, 3), (8, 3, 5), (8, 3, 5, 4)])
def test_is_batch_norm_without_affine(shape: tuple[int, ...]) -> None:
    twin = torch.nn.BatchNorm2d(3, affine=False) if len(shape) == 4 else torch.nn.BatchNorm1d(
        3, affine=False)  # fmt: skip
    norm = NormalizedBatchNorm(3)
    assert list(norm.parameters()) == []
    assert list(norm.state_dict()) == list(twin.state_dict())
    x = 3 + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        assert torch.equal(norm(x), twin(x))
        norm.eval()
        twin.eval()
    norm.load_state_dict(twin.state_dict())
    assert torch.equal(norm(x), twin(x))


def test_other_shapes_are_refused() -> None:
    for x in (torch.zeros(3), torch.zeros(1, 3, 2, 2, 2)):
        with pytest.raises(ValueError, match="NormalizedBatchNorm needs"):
            NormalizedBatchNorm(3)(x)
