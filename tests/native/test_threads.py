import numpy as np
import pytest

from .conftest import native


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("items", [0, 1, 2, 7, 41, 1000])
def test_pool_hands_out_every_item_once(threads, items):
    visits = native.testing.pool_visits(threads, items, 50)
    np.testing.assert_array_equal(visits, [50] * items + [0])
