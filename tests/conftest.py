"""How the tests are shared among the workers of a run."""

from collections import Counter

import pytest
from xdist.scheduler import LoadScopeScheduling

# What takes longest, by measurement; it comes first, so that small shares are left for the end.
LONG = ["test_phone", "test_practice", "test_checker", "test_address", "test_cluster", "test_search", "test_records"]
LONG += ["test_looks", "test_launch", "test_pages", "test_alone", "test_distributed"]


class Shares(LoadScopeScheduling):
    """A file's tests are one worker's, so that no fixture is made twice; of the site's looks, those of a page."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        return test.rpartition("-")[0] if "/test_looks." in file else file


@pytest.hookimpl
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Shares:
    config.option.loadscopereorder = False  # the order is the one below
    return Shares(config, log)  # pyright: ignore[reportArgumentType]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring the long files to the front, and of the others those with most tests."""
    sizes = Counter(item.path for item in items)
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: (places.get(item.path.stem, len(LONG)), -sizes[item.path]))
