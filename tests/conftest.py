import pytest
import torch

from data_sets import GOOD, cache_of, content, write_csl


@pytest.fixture(scope="session")
def good_content(tmp_path_factory) -> dict:
    """What a cache holds of the good clips when nothing else is there."""
    return content(cache_of(write_csl(tmp_path_factory.mktemp("good") / "data", GOOD)))


@pytest.fixture
def one_thread():
    """For who compares last digits, or runs small operations beside other programs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
