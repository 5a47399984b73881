"""Each mistake of the catalogue is named, alone and with others, and nothing that is right is called wrong."""

import copy
import dataclasses
import importlib
import itertools
import math
import pkgutil
import random
import re

import numpy as np
import pytest
import torch

from bnlib import catalogue
from bnlib.catalogue import EXERCISES, Exercise, Mistake
from bnlib.catalogue.explain import DOUBLE
from bnlib.exercises import FAR, Diagnosis, check
from tests.exercises.cases import CASES, REFERENCES, Case

for module in pkgutil.iter_modules(catalogue.__path__):
    if module.name not in ("exercise", "explain"):
        importlib.import_module(f"tests.exercises.{module.name}")

EVERY = sorted(EXERCISES)
SEVERAL = [name for name in EVERY if len(EXERCISES[name].outputs) > 1]
FAR_OUT = [name for name in EVERY if EXERCISES[name].far]
WITH_EPS = [name for name in EVERY if "eps" in EXERCISES[name].draws[0]]
NORMS = ("06-batch-norm", "06-channels", "07-backward", "07-channels")


def with_mistakes(exercise: Exercise, *mistakes: Mistake):
    """A function that makes these mistakes, by the catalogue's own steps."""

    def function(*arguments):
        draw = dict(zip(exercise.draws[0], arguments, strict=True))
        return tuple(exercise.run(*mistakes, draws=[draw])[0].values())

    return function


def sentences(*mistakes: Mistake) -> list[str]:
    return [mistake.seen for mistake in mistakes]


def outputs_of(function, arguments: dict, count: int) -> list[np.ndarray]:
    """What a function gives for arguments of its own, as arrays without superfluous axes."""
    with np.errstate(all="ignore"):
        outputs = function(*copy.deepcopy(list(arguments.values())))
    outputs = outputs if count > 1 or isinstance(outputs, tuple) else (outputs,)
    return [np.asarray(a.detach() if isinstance(a, torch.Tensor) else a, float).squeeze() for a in outputs]


def deviation(a: np.ndarray, b: np.ndarray) -> float:
    """Relative to the largest entry; infinite for another shape, and for what is no number."""
    off = abs(a - b).max() / abs(b).max() if a.shape == b.shape else math.inf
    return math.inf if math.isnan(off) else float(off)


# The references and the arguments


@pytest.mark.parametrize("name", EVERY)
def test_the_reference_is_that_of_bnlib_or_pytorch(name: str):
    exercise = EXERCISES[name]
    for arguments, outputs in zip(exercise.draws, exercise.run(), strict=True):
        for got, want in zip(outputs.values(), outputs_of(REFERENCES[name], arguments, len(outputs)), strict=True):
            assert deviation(got, want) < 1e-9
    assert check(name, with_mistakes(exercise)).right


@pytest.mark.parametrize("name", FAR_OUT)
def test_the_call_in_single_precision_is_right_for_the_reference(name: str):
    """In float32 itself the reference is right far out; what it is compared with is right for just these arguments."""
    far = EXERCISES[name].far
    assert far
    for around in (0.0, FAR):
        draw = {k: np.float32(a) if isinstance(a, np.ndarray) else a for k, a in far.around(around).items()}
        exact = {k: np.float64(a) if isinstance(a, np.ndarray) else a for k, a in draw.items()}
        rounded, expected = EXERCISES[name].run(draws=[draw, exact])
        for output, a in expected.items():
            assert (rounded[output].dtype, a.dtype) == (np.float32, np.float64)
            assert deviation(rounded[output], a) < far.tolerance / 5


@pytest.mark.parametrize("name", EVERY)
def test_the_shapes_that_are_told_are_those_of_the_draws(name: str):
    """Each array is told of, and a letter is one number in every draw."""
    exercise = EXERCISES[name]
    told = {
        each: shape
        for names, shape in re.findall(r"((?:\w+(?:, | and ))*\w+)(?: of shape|) \(([^)]*)\)", exercise.shapes)
        for each in re.split(", | and ", names)
    }
    told = dict.fromkeys(("gamma", "beta", "dgamma", "dbeta", "gamma_new", "beta_new"), "C,") | told
    for arguments, outputs in zip(exercise.draws, exercise.run(), strict=True):
        arrays = {n: a for n, a in (arguments | outputs).items() if np.ndim(a)}
        sizes = {}
        for each, a in sorted(arrays.items(), key=lambda item: "+" in told[item[0]]):
            letters = told[each].rstrip(",").split(", ")
            sizes |= {s: n for s, n in zip(letters, a.shape, strict=True) if s.isidentifier() and s not in sizes}
            assert a.shape == tuple(eval(s, {}, sizes) for s in letters), each
    assert f"``{exercise.signature}``, {exercise.shapes}" in " ".join(str(check.__doc__).split())


@pytest.mark.parametrize("name", EVERY)
def test_the_arguments_have_both_signs_and_several_sizes(name: str):
    """Else abs, or np.clip, of an argument passes."""
    positive = ("vars", "var", "kept", "counts", *(["w"] if name == "01-weights" else []))
    for argument, value in EXERCISES[name].draws[0].items():
        values = np.concatenate([np.ravel(draw[argument]) for draw in EXERCISES[name].draws])
        if isinstance(value, np.ndarray):
            assert values.max() > 0
            assert values.min() < 0 or argument in positive
            assert abs(values).max() > 1.2 * abs(values).min() or argument == "kept"
        assert len(set(values)) > 1
    if name == "13-scale":
        kinds = {(bool(d["a"] > 0), bool(abs(d["a"]) > 1)) for d in EXERCISES[name].draws}
        assert kinds == {*itertools.product((False, True), repeat=2)}


@pytest.mark.parametrize("name", [*NORMS, "08-step", "09-fold"])
def test_eps_lies_below_the_variances_once_and_among_them_once(name: str):
    """The first shows a mistake without a NaN, the second shows that eps is added, and no lower bound."""
    first, second = EXERCISES[name].draws[:2]

    def variances(draw):
        if "var" in draw:
            return draw["var"]
        x = draw["x"] if "x" in draw else draw["h"] @ draw["W"]
        return x.var((0, *range(2, x.ndim)))

    assert first["eps"] < variances(first).min()
    assert variances(second).min() < second["eps"] < variances(second).max()


@pytest.mark.parametrize("name", [*NORMS, "08-step"])
def test_the_norms_arguments_hide_no_mistake(name: str):
    for arguments in EXERCISES[name].draws:
        x = arguments["x"] if "x" in arguments else arguments["h"] @ arguments["W"]
        assert len(set(x.shape)) == len(x.shape)
        assert min(x.shape) > 1, "the outputs' axes of length 1 count as superfluous"
        assert len(x) > 2
        var = x.var((0, *range(2, x.ndim)))
        assert (0.005 if name == "08-step" else 0.05) * var.max() < arguments["eps"] < var.max()
        parameters = np.concatenate([arguments[k] for k in ("gamma", "beta") if k in arguments])
        assert min(abs(parameters).min(), abs(parameters - 1).min()) > 0.4
        if name in NORMS:
            assert abs(x.mean()) > 100 * var.max() ** 0.5
        else:
            assert arguments["h"].shape == x.shape, "else the gradient of W made of the wrong arrays has another shape"
            assert len({1, arguments["lr"], arguments["lr"] ** 2, arguments["lr"] / len(x)}) == 4


def test_the_layers_arguments_hide_no_mistake():
    for arguments in EXERCISES["02-backward"].draws:
        layers, _, units = arguments["weights"].shape
        assert len({layers, units, len(arguments["x"])}) == 3
        assert layers >= 2
        assert len(arguments["x"]) > 2


def test_adams_arguments_hide_no_mistake():
    for i, arguments in enumerate(EXERCISES["08-adam"].draws):
        steps, units = arguments["grads"].shape
        assert steps != units
        assert min(steps, units) > 2
        assert (arguments["grads"].min() > 0) == (i == 0)
        assert 0.05 * arguments["grads"].max() < arguments["eps"] < arguments["grads"].max()
        betas = arguments["beta1"], arguments["beta2"]
        assert len({*betas, *(1 - b for b in betas)}) == 4


# The catalogue's own mistakes


@pytest.mark.parametrize("name", EVERY)
def test_each_mistake_is_named(name: str):
    for mistake in EXERCISES[name].mistakes:
        diagnosis = check(name, with_mistakes(EXERCISES[name], mistake))
        assert not diagnosis.right, mistake.seen
        if mistake.seen in ("dgamma and dbeta have changed places.", "gamma and beta come back in the wrong order."):
            assert "right, but in another order" in diagnosis.sentences[0]  # as it is alone
        else:
            assert list(diagnosis.sentences[1:]) == sentences(mistake)


@pytest.mark.parametrize("name", EVERY)
def test_each_entry_replaces_steps_that_exist_and_says_so_briefly(name: str):
    exercise = EXERCISES[name]
    for mistake in exercise.mistakes:
        assert mistake.steps, mistake.seen
        assert mistake.steps.keys() <= exercise.steps.keys() | exercise.draws[0].keys(), mistake.seen
        for text in filter(None, (mistake.seen, mistake.remedy)):
            assert text.endswith((".", ")"))
            assert len([word for word in text.split() if word[0].isalpha()]) <= 30, text
        told = Diagnosis(False, (mistake.seen, mistake.seen), (mistake.remedy or "",))
        lines = [
            *repr(told).splitlines(),
            *repr(dataclasses.replace(told, remedies=("", *told.remedies)).hint()).splitlines(),
        ]
        assert max(map(len, lines)) <= 79
        items = [line for line in repr(told).splitlines() if line.lstrip().startswith("- ")]
        assert len(items) == 1, "a minus looks like an item"
    every = sentences(*exercise.mistakes)
    assert len(set(every)) == len(every)


@pytest.mark.parametrize("name", EVERY)
def test_pairs_of_mistakes_are_named(name: str):
    exercise = EXERCISES[name]
    pairs = [made for made, _ in exercise.candidates if len(made) == 2]
    exact = 0
    chosen = random.Random(0).sample(pairs, min(len(pairs), 150))
    for pair in chosen:
        diagnosis = check(name, with_mistakes(exercise, *pair))
        named = [m for m in exercise.mistakes if m.seen in diagnosis.sentences]
        assert list(diagnosis.sentences[1:]) == sentences(*named)
        exact += named == list(pair)
        # One mistake may hide the other, or two may be one: what is named then gives the same outputs, no less simply.
        for made, given in zip(exercise.run(*named), exercise.run(*pair), strict=True):
            for output, a in given.items():
                largest = abs(a[np.isfinite(a)]).max(initial=0)
                np.testing.assert_allclose(made[output], a, rtol=0, atol=DOUBLE * largest)
        assert len(named) <= 2
    assert exact > 0.9 * len(chosen)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("06-batch-norm", ("unbiased", "eps is fixed at 1e-5", "gamma is forgotten")),
        ("13-axes", ("as in layer norm", "unbiased", "eps stands outside")),
        ("03-whiten", ("PCA", "divisor N - 1", "mean is never removed")),
        ("07-backward", ("path through the mean is counted twice", "dx lacks gamma", "eps is missing in the factor")),
        # Unbiased in both outputs; dgamma alone could also be explained by the variant in which dx does not follow.
        ("07-backward", ("path through the mean", "dx follows it", "dgamma is averaged")),
        # Four, of which three are in dx, among too many to try all threes.
        (
            "07-backward",
            ("N - 1. The", "eps is fixed at 1e-5", "lacks the path through the mean", "dbeta is averaged"),
        ),
        # What explains another output, and two more, which no three beside it explain.
        ("08-step", ("All steps go uphill", "through the variance lacks its", "missing in the first term of dz")),
        ("08-adam", ("bias correction of m is", "eps stands inside", "sign is wrong")),
        ("09-running", ("momentum has the other direction.", "biased", "starts at 1, not at 0")),
    ],
)
def test_three_mistakes_at_once_are_named(name: str, parts: tuple[str, ...]):
    mistakes = [next(m for m in EXERCISES[name].mistakes if part in m.seen) for part in parts]
    diagnosis = check(name, with_mistakes(EXERCISES[name], *mistakes))
    assert set(diagnosis.sentences[1:]) == set(sentences(*mistakes))


@pytest.mark.parametrize(("name", "output"), [(name, o) for name in SEVERAL for o in EXERCISES[name].outputs])
def test_what_is_right_stays_right_in_what_is_named(name: str, output: str):
    """Wrong in one output alone: no mistake that is named contradicts the summary, as it would change another."""
    exercise = EXERCISES[name]
    changing = [m for m in exercise.mistakes if exercise.run(m)[0][output].shape == exercise.run()[0][output].shape]
    for mistake in random.Random(0).sample(changing, min(len(changing), 12)):

        def function(*arguments, mistake=mistake):
            right, wrong = (with_mistakes(exercise, *m)(*arguments) for m in ((), (mistake,)))
            return tuple(w if n == output else r for n, r, w in zip(exercise.outputs, right, wrong, strict=True))

        seen = check(name, function).sentences
        named = exercise.run(*(m for m in exercise.mistakes if m.seen in seen))
        for a, b in zip(named, exercise.run(), strict=True):
            for other in set(exercise.outputs) - {output}:
                np.testing.assert_allclose(a[other], b[other], rtol=1e-5, err_msg=str(seen))


@pytest.mark.parametrize("name", SEVERAL)
def test_outputs_in_another_order_are_told(name: str):
    outputs = EXERCISES[name].outputs
    for order in list(itertools.permutations(range(len(outputs))))[1:]:

        def moved(*arguments, order=order):
            given = REFERENCES[name](*arguments)
            return tuple(given[i] for i in order)

        def summed_with_keepdims(*arguments, moved=moved):
            return tuple(a[None] if np.ndim(a) == 1 else a for a in moved(*arguments))

        for function in (moved, summed_with_keepdims):  # of whose shapes nothing is said: the names would be wrong
            diagnosis = check(name, function)
            assert not diagnosis.right
            seen = f"The outputs are right, but in another order: return {', '.join(outputs)}."
            assert diagnosis.sentences == (seen,)
            assert repr(diagnosis.hint()) == "What was seen says it all."


@pytest.mark.parametrize("name", WITH_EPS)
def test_a_fixed_eps_is_told_from_a_forgotten_one(name: str):
    """By functions of bnlib and PyTorch, to which another eps is passed; by the reference, where they refuse 0."""
    place = list(EXERCISES[name].draws[0]).index("eps")

    def with_eps(value, function):
        return lambda *arguments: function(*arguments[:place], value, *arguments[place + 1 :])

    assert len(WITH_EPS) == 10
    for text in ("1e-3", "1e-5", "1e-6", "1e-7", "1e-8", "1e-12"):
        told = check(name, with_eps(float(text), REFERENCES[name])).sentences[1:]
        assert told == (f"eps is fixed at {text}, whatever is passed.",)
    forgotten = check(name, with_eps(0.0, with_mistakes(EXERCISES[name]))).sentences[1:]
    assert forgotten == ("eps is forgotten: it has no effect on the result.",)


# Functions as readers write them


def summary(case: Case) -> str:
    """How the first sentence begins if some outputs are wrong in float64."""
    exercise = EXERCISES[case.exercise]
    right, wrong = list(exercise.outputs), []
    for arguments, outputs in zip(exercise.draws, exercise.run(), strict=True):
        for (output, b), a in zip(outputs.items(), outputs_of(case.function, arguments, len(outputs)), strict=True):
            if output in right and deviation(a, b) > DOUBLE:
                right.remove(output)
    wrong = [output for output in exercise.outputs if output not in right]

    def are(names: list[str]) -> str:
        return f"{' and '.join(filter(None, (', '.join(names[:-1]), names[-1])))} {'is' if len(names) == 1 else 'are'}"

    return (f"{are(right)} right, " if right and wrong else "") + (f"{are(wrong)} not" if wrong else "")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_right_passes_and_what_is_wrong_is_named(case: Case):
    """Besides, there may be remarks on dtypes and shapes, each with its remedy."""
    diagnosis = check(case.exercise, case.function)
    assert diagnosis.right == (not case.says), diagnosis
    first, *seen = diagnosis.sentences
    assert first.startswith(summary(case))
    remarks = [s for s in seen if not any(part in s for part in case.says)]
    assert all("float32" in s or "the shape" in s for s in remarks), diagnosis
    named = [s for s in seen if s not in remarks]
    assert len(named) == len(case.says), diagnosis
    assert all(part in s for part, s in zip(case.says, named, strict=True)), diagnosis
    if diagnosis.right:
        assert len(diagnosis.remedies) == len(remarks)


@pytest.mark.parametrize("name", FAR_OUT)
def test_the_tolerance_in_single_precision_lies_between_right_and_wrong(name: str):
    """Far from both: two passes in float32 come within a tenth of it, a variance that cancels is ten times as far."""
    far = EXERCISES[name].far
    assert far
    single = {n: np.float32(a) if isinstance(a, np.ndarray) else a for n, a in far.around(FAR).items()}
    double = {n: np.float64(a) if isinstance(a, np.ndarray) else a for n, a in single.items()}
    expected = EXERCISES[name].run(draws=[double])[0]

    def off(case: Case) -> float:
        return max(map(deviation, outputs_of(case.function, single, len(expected)), expected.values()))

    cases = [case for case in CASES if case.exercise == name]
    assert max(off(case) for case in cases if not case.says) < far.tolerance / 10
    assert min(off(case) for case in cases if case.says and "float32" in case.says[0]) > 10 * far.tolerance


@pytest.mark.parametrize("name", EVERY)
def test_every_exercise_has_functions_of_both_kinds(name: str):
    whole = [case for case in CASES if case.exercise == name and not case.change]
    assert len([case for case in whole if not case.says]) >= 3
    assert [case for case in whole if case.says]
