"""Every page of the site, wide, on a phone and dark, in a real browser.

These tests take minutes; in a file of their own they run beside the others.
"""

import pytest
from playwright.sync_api import Browser

from tests.site.checker import problems
from tests.site.conftest import PAGES
from tools.browser import VIEWS, View


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("path", PAGES)
def test_page(chromium: Browser, address: str, path: str, view: View) -> None:
    assert problems(chromium, f"{address}/{path}", view) == []
