"""A Chromium is found, or installed, or its lack is a failure that says what to do."""

import subprocess
from pathlib import Path

import pytest

from tools import browser


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The commands that would have been run, on a machine with apt-get and without any Chromium."""
    run: list[list[str]] = []
    monkeypatch.setattr(browser.shutil, "which", lambda name: "/usr/bin/apt-get" if name == "apt-get" else None)
    monkeypatch.setattr(browser, "playwrights_chromium", lambda: tmp_path / "chrome")
    monkeypatch.setattr(browser.subprocess, "run", lambda command, **_: run.append(command))
    return run


def test_one_on_the_path_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser.shutil, "which", lambda name: f"/bin/{name}" if name == "google-chrome" else None)
    assert browser.find_chromium() == "/bin/google-chrome"


def test_playwrights_own_comes_second(commands: list[list[str]], tmp_path: Path) -> None:
    assert browser.find_chromium() is None
    (tmp_path / "chrome").touch()
    assert browser.find_chromium() == str(tmp_path / "chrome")


@pytest.mark.parametrize(("user", "command"), [(0, ["apt-get", "install"]), (1000, ["-m", "playwright", "install"])])
def test_what_is_installed(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, user: int, command: list[str]
) -> None:
    monkeypatch.setattr(browser.os, "geteuid", lambda: user)
    browser.install_chromium()
    assert set(command) <= set(commands[-1])


def test_nothing_is_installed_where_there_is_one(commands: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / "chrome").touch()
    browser.main()
    assert commands == []


def test_failing_to_install_one_fails_with_the_remedy(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise subprocess.CalledProcessError(100, ["apt-get"])

    monkeypatch.setattr(browser, "install_chromium", fail)
    with pytest.raises(SystemExit, match="Install it by hand"):
        browser.main()


def test_checks_without_one_fail_with_the_remedy(commands: list[list[str]]) -> None:
    with pytest.raises(FileNotFoundError, match="make chromium"), browser.chromium():
        pass
