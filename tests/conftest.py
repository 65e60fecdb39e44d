import pytest

from data_sets import GOOD, cache_of, content, write_csl


@pytest.fixture(scope="session")
def good_content(tmp_path_factory) -> dict:
    """What a cache holds of the good clips when nothing else is there."""
    return content(cache_of(write_csl(tmp_path_factory.mktemp("good") / "data", GOOD)))
