import gc

import pytest
import torch

from data_sets import GOOD, cache_of, content, write_csl

# The files that take longest, which are dealt first, so that no process is left alone with one of them at the end.
LONG = (
    *("tasks", "resume", "evaluate", "export_model", "ranks", "tokenizer", "judge", "pose_cache", "extending"),
    *("stream", "readme", "loop", "benchmarks", "export", "perceptual", "devices", "visualizer"),
    *("hostile_checkpoints", "distributed", "visualize_dataset", "fsq", "fuzz", "meaning", "user_inputs", "wandb"),
)


def pytest_configure(config: pytest.Config) -> None:
    """pytest-xdist would deal the files with the most tests first."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {f"test_{name}": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONG)))


def pytest_collection_finish() -> None:
    """A tenth of the time goes to looking through what stays, unless it is set aside."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


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
