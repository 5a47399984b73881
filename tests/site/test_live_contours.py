"""Chapter 3's cloud: Hessian, eigenvalues, path and steps are NumPy's, and the treatments do what they say."""

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.site.live import STATES, live, words

START = np.array([0.1, 1.0])


@pytest.fixture
def cloud(live_page: Page, address: str) -> Locator:
    return live(live_page, address, "fig-cloud")


def data(**moved) -> np.ndarray:
    """The cloud of a state, (60, 2)."""
    state = STATES["fig-cloud"] | moved
    return np.array(state["white"]) @ [state["along"], state["across"]] + state["centre"]


def steps(X: np.ndarray, rate: float, share: float = 1e-3) -> int:
    """Gradient descent, step by step, at a part of 2 / the largest eigenvalue."""
    H, error = X.T @ X / len(X), START
    lr = rate * 2 / np.linalg.eigvalsh(H)[-1]
    for step in range(100_000):
        if np.linalg.norm(error) <= share * np.linalg.norm(START):
            return step
        error = error - lr * H @ error
    raise AssertionError("does not arrive")


def told(figure: Locator) -> tuple[float, int]:
    """The condition number and the steps that the figure tells."""
    text = words(figure)
    count = text.split("after ")[1].split()[0].replace(",", "")
    return float(text.split("κ is ")[1].split()[0].rstrip(".")), int(count)


def kappa(X: np.ndarray) -> float:
    return float(np.linalg.cond(X.T @ X))


def test_the_page_computes_what_numpy_computes(live_page: Page, cloud: Locator):
    rng = np.random.default_rng(0)
    for rate in (0.3, 0.93, 1.04):
        white, (centre, along, across) = rng.normal(size=(40, 2)), rng.normal(size=(3, 2)).tolist()
        state = {"centre": centre, "along": along, "across": across}
        there = live_page.evaluate(
            """([white, state, rate]) => import('/_static/figures/contours.js').then((own) => {
                 const points = own.placed(white, state), H = own.hessian(points), shape = own.eigen(H);
                 const eta = 2 * rate / shape.values[0];
                 const after = [own.errorAfter(7, shape, eta), own.stepsUntil(shape, eta)];
                 return [points, H, shape.values, shape.angle, ...after];
               })""",
            [white.tolist(), state, rate],
        )
        X = white @ [along, across] + centre
        H = X.T @ X / len(X)
        values, V = np.linalg.eigh(H)
        np.testing.assert_allclose(there[0], X)
        np.testing.assert_allclose(there[1], [H[0, 0], H[0, 1], H[1, 1]])
        np.testing.assert_allclose(there[2], values[::-1])
        assert abs(V[:, 1] @ [np.cos(there[3]), np.sin(there[3])]) == pytest.approx(1)
        error = np.linalg.matrix_power(np.eye(2) - 2 * rate / values[1] * H, 7) @ START
        np.testing.assert_allclose(there[4], error, rtol=1e-8, atol=1e-12)
        assert there[5] == (steps(X, rate) if rate < 1 else np.inf)


@pytest.mark.parametrize("treatment", ["centred", "standardized", "whitened"])
def test_treatments_are_numpys(live_page: Page, cloud: Locator, treatment: str):
    state = STATES["fig-cloud"]
    there = live_page.evaluate(
        """([white, state, name]) => import('/_static/figures/contours.js').then((own) =>
             own.placed(white, own.treatments[name](state, white)))""",
        [state["white"], state, treatment],
    )
    X = data() - data().mean(0)
    values, V = np.linalg.eigh(X.T @ X / len(X))
    M = {"centred": np.eye(2), "standardized": np.diag(1 / X.std(0)), "whitened": (V / np.sqrt(values)) @ V.T}
    np.testing.assert_allclose(there, X @ M[treatment], atol=2e-3)


def test_it_begins_with_the_notebooks_numbers_and_each_treatment_helps(cloud: Locator):
    X, (before, count) = data(), told(cloud)
    assert before == pytest.approx(kappa(X), abs=0.6)
    assert count == steps(X, 0.9)
    for name in ("centre", "standardize", "whiten"):  # each at the rate that is best for it
        cloud.get_by_role("button", name=name).click()
        after, fewer = told(cloud)
        assert after < before
        assert fewer < count
        before, count = after, fewer
    assert (before, count) == (1, 1)
    cloud.get_by_role("button", name="start again").click()
    cloud.get_by_role("button", name="best rate").click()
    values = np.linalg.eigvalsh(X.T @ X)
    assert told(cloud)[1] == steps(X, values[1] / values.sum())
    cloud.get_by_role("button", name="whiten").click()
    assert "after 1 step." in words(cloud)


def test_the_centre_and_an_arm_move_the_contours(cloud: Locator):
    cloud.get_by_role("slider", name="Centre of the cloud").press("ArrowLeft")
    cloud.get_by_role("slider", name="Short arm of the cloud").press("ArrowUp")
    X = data(centre=[1.9, 1.2], across=[-0.2, 0.55])
    assert told(cloud) == (pytest.approx(kappa(X), abs=0.6), steps(X, 0.9))
    cloud.get_by_role("slider", name="rate").fill("0.6")
    assert told(cloud)[1] == steps(X, 0.6)


def test_beyond_the_largest_rate_the_error_grows(cloud: Locator):
    rate = cloud.get_by_role("slider", name="rate")
    rate.fill("1")
    expect(cloud.locator(".bn-words")).to_contain_text("more than a thousandth")
    rate.fill("1.1")
    expect(cloud.locator(".bn-words")).to_contain_text("grows by 20\u00a0% with each step")


def test_an_arm_can_be_dragged_and_keeps_a_length(live_page: Page, cloud: Locator):
    handle, centre = (cloud.get_by_role("slider", name=name) for name in ("Long arm", "Centre of the cloud"))
    before = words(cloud)
    for target in (cloud.locator(".bn-live svg"), centre):  # to the drawing's middle, then onto the centre: refused
        start, end = handle.bounding_box(), target.bounding_box()
        assert start
        assert end
        live_page.mouse.move(start["x"] + start["width"] / 2, start["y"] + start["height"] / 2)
        live_page.mouse.down()
        live_page.mouse.move(end["x"] + end["width"] / 2, end["y"] + end["height"] / 2, steps=4)
        live_page.mouse.up()
    assert words(cloud) != before
    assert told(cloud)[0] > 1
    first, second = handle.bounding_box(), centre.bounding_box()
    assert first
    assert second
    assert abs(first["x"] - second["x"]) + abs(first["y"] - second["y"]) > 2
