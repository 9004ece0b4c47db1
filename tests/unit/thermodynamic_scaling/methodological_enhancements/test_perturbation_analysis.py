"""The façade of perturbation analysis: seeds, defaults, and a model together with its matrices."""

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tgn.thermodynamics import perturbation
from thermodynamic_scaling.methodological_enhancements import perturbation_analysis as analysis
from thermodynamic_scaling.model_loading import extract_model_weights

SMALL = {"noise": (0.05, 0.1), "pruning": (0.2, 0.4)}
NAME = "layer_0/self_attention.query"


def noise(seed=0):
    return np.random.default_rng(seed).standard_normal((20, 30))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=50, n_positions=16, n_embd=16, n_layer=1, n_head=2, initializer_range=0.3,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def test_by_default_every_kind_is_done():
    assert set(analysis.CHANGES) == set(perturbation.KINDS)
    rows = analysis.perturbation_response(noise(), draws=1, rng=0)
    assert set(rows["kind"]) == set(perturbation.KINDS)
    assert {"critical_temperature", "entropy", "specific_heat", "mp_distance"} < set(rows["metric"])
    rows = analysis.perturbation_response(noise(), draws=1, rng=0, control=False)
    assert not rows["control"].any()


def test_a_seed_is_a_generator():
    by_seed = analysis.perturbation_response(noise(), SMALL, draws=2, rng=7)
    by_generator = analysis.perturbation_response(
        noise(), SMALL, draws=2, rng=np.random.default_rng(7)
    )
    pd.testing.assert_frame_equal(by_seed, by_generator)
    first = analysis.perturb_matrix(noise(), "noise", 0.1, rng=7)
    np.testing.assert_array_equal(first, analysis.perturb_matrix(noise(), "noise", 0.1, rng=7))


def test_the_temperature_is_that_of_the_quantities():
    hot, cold = (
        analysis.perturbation_response(noise(), SMALL, draws=1, rng=0, temperature=kelvin)
        for kelvin in (1.9, 0.5)
    )
    entropy = [rows.loc[rows["metric"] == "entropy", "reference"].iloc[0] for rows in (hot, cold)]
    assert entropy[1] < entropy[0] < np.log(600)


def test_thermodynamics_and_perplexity_stand_in_one_table(model):
    weights, _ = extract_model_weights(model)
    windows = np.random.default_rng(0).integers(0, 50, (3, 8))
    of_matrix = analysis.perturbation_response(
        weights["layer_0"]["self_attention.query"], SMALL, name=NAME, draws=3, rng=0
    )
    of_model = analysis.perplexity_response(model, windows, SMALL, names=[NAME], draws=3, rng=0)
    both = pd.concat([of_matrix, of_model])
    assert set(of_matrix) <= set(of_model)
    eps = both.groupby(["kind", "amount", "control", "draw"])["eps"]
    assert (eps.max() - eps.min()).max() < 1e-6  # the same changes in both
    found = analysis.susceptibility(both, largest=1.0, rng=0)
    assert {"nats", "perplexity", "entropy", "spectrum"} <= set(found["metric"])
    assert len(found) == len(found[["kind", "control", "metric"]].drop_duplicates())


def test_linear_response_is_the_boltzmann_average():
    matrix, direction = noise(), noise(1)
    step, temps = 1e-5, [0.5, 1.0, 2.0]

    def free_energy(eps):
        return perturbation.thermal_properties(matrix + eps * direction, temps).free_energy

    slope = (free_energy(step) - free_energy(-step)) / (2 * step)
    np.testing.assert_allclose(analysis.linear_response(matrix, direction, temps), slope, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: analysis.perturb_matrix([], "noise", 0.1), "matrix"),
        (lambda: analysis.perturb_matrix(noise(), "nothing", 0.1), "kind"),
        (lambda: analysis.perturbation_response(noise(), {}), "changes"),
        (lambda: analysis.perturbation_response(noise(), SMALL, temperature=0), "temperatures"),
        (lambda: analysis.linear_response(noise(), noise(), [0.0]), "temperatures"),
        (lambda: analysis.susceptibility(pd.DataFrame()), "lack"),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=name):
        call()
