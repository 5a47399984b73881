"""Prints what a first visit to each page of the built site sends over the wire, as ``make weight``."""

from tools import browser


def main() -> None:
    """Print the table."""
    with browser.serve(browser.SITE) as address, browser.chromium() as chromium:
        visits = {path: browser.first_visit(chromium, f"{address}/{path}") for path in browser.pages(browser.SITE)}
    kinds = sorted({fetch.kind for visit in visits.values() for fetch in visit})
    print(f"{'page':<34}{'requests':>9}{'kB gzip':>9}" + "".join(f"{kind:>12}" for kind in kinds))
    for path, visit in visits.items():
        sizes = [sum(fetch.size for fetch in visit if fetch.kind == kind) / 1000 for kind in kinds]
        print(f"{path:<34}{len(visit):>9}{sum(sizes):>9.1f}" + "".join(f"{size:>12.1f}" for size in sizes))


if __name__ == "__main__":
    main()
