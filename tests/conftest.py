import pytest

from helpers import GOOD, content, open_cache, write_csl


@pytest.fixture(scope="session")
def good_content(tmp_path_factory) -> dict:
    """What a cache holds of the good clips when nothing else is there."""
    return content(open_cache(write_csl(tmp_path_factory.mktemp("good") / "data", GOOD)))
