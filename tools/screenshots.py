"""Takes a picture of every page of the built site, wide, as on a phone, and dark, into _build/screenshots."""

import sys
from pathlib import Path

from tools import browser


def main(site: Path) -> None:
    """Take the pictures of the site in ``site``."""
    target = site.parent / "screenshots"
    target.mkdir(exist_ok=True)
    with browser.serve(site) as address, browser.chromium() as chromium:
        for name, view in browser.VIEWS.items():
            page = chromium.new_page(viewport={"width": view.width, "height": 900}, color_scheme=view.scheme)
            for path in browser.pages(site):
                page.goto(f"{address}/{path}")
                title = path.removesuffix(".html").replace("/", "-")
                page.screenshot(path=target / f"{title}-{name}.png", full_page=True)
            page.close()
    print(f"The pictures are in {target}.")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else browser.SITE)
