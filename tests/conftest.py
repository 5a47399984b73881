"""How the tests are shared among the workers of a run."""

import pytest
from xdist.scheduler import LoadScopeScheduling


class Shares(LoadScopeScheduling):
    """A file's tests are one worker's, so that no fixture is made twice; of the site's looks, those of a page.

    The files with most tests come first, so that small shares are left for the end.
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        return test.rpartition("-")[0] if "/test_looks." in file else file


@pytest.hookimpl
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Shares:
    return Shares(config, log)  # pyright: ignore[reportArgumentType]
