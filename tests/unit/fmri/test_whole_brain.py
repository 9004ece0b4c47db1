"""Fits, true ranks, and the jobs that simulate a person in other states."""

import json

import numpy as np
import pandas as pd
import pytest

from tgn.fmri import whole_brain
from tgn.fmri.connectivity import pearson
from tgn.fmri.connectomes import Connectome, normalised
from tgn.fmri.filters import band_passed
from tgn.fmri.hopf import Hopf
from tgn.fmri.mean_field import MeanField, coupling_limit, feedback_inhibition

BAND = (0.01, 0.1)
REGIONS = 10
MODELS = {
    "hopf": {"bifurcation": -0.05, "grid": [0.1, 0.3, 0.9]},
    "mean_field": {"grid": [0.3, 0.6, 9.0]},
}
STATES = {"awake": {}, "deep": {"coupling": 0.5, "bifurcation": 2.0}}


@pytest.fixture(scope="module")
def weights():
    return normalised(np.random.default_rng(4).exponential(size=(REGIONS, REGIONS)) ** 2)


@pytest.fixture(scope="module")
def hopf(weights):
    return Hopf(weights, np.linspace(0.045, 0.055, REGIONS), coupling=0.4, bifurcation=-0.05)


@pytest.fixture(scope="module")
def person(tmp_path_factory, weights, hopf):
    """Connectome file of a person whose BOLD is that of a known model."""
    path = tmp_path_factory.mktemp("person") / "P.npz"
    names = np.array([f"R{k}" for k in range(REGIONS)])
    bold = 9000 + 100 * hopf.simulate(volumes=2000, tr=2.0, seed=1).signals
    found = Connectome("P", "gw", weights, weights, bold, 2.0, names, np.arange(REGIONS))
    np.savez(path, **found._asdict())
    return path


@pytest.fixture(scope="module")
def fitted(person):
    path = person.with_name("P.json")
    whole_brain.fit_person(
        connectome=person, output=path, models=MODELS, states=STATES, band=BAND, seed=3
    )
    return path


def test_fit_recovers_a_planted_coupling_exactly(hopf):
    data = whole_brain.changed(hopf, {"coupling": 1.7}).connectivity(BAND)
    tried = whole_brain.fit(
        lambda g: Hopf(hopf.weights, hopf.frequencies, g, bifurcation=-0.05),
        data, [0.1, 0.3, 1.0, 3.0], band=BAND,
    )  # fmt: skip
    assert tried[0].coupling == pytest.approx(1.7 * 0.4, rel=0.03)
    assert tried[0].correlation > 0.999
    assert tried == sorted(tried, key=lambda match: match.distance)
    assert {0.1, 0.3, 1.0, 3.0} <= {round(match.coupling, 9) for match in tried}


def test_fit_recovers_the_coupling_of_a_simulation(fitted):
    found = json.loads(fitted.read_text())["models"]["hopf"]
    assert found["parameters"]["coupling"] == pytest.approx(0.4, rel=0.15)
    assert found["parameters"]["bifurcation"] == -0.05
    assert found["correlation_linearised"] > 0.95
    assert found["correlation_simulated"] > 0.9
    assert found["agreement"] > 0.95
    assert 0 < found["regime"]["activity_mean"] < 0.2


def test_fit_recovers_the_coupling_of_a_simulated_mean_field(weights):
    def build(coupling):
        return MeanField(weights, feedback_inhibition(weights, coupling), coupling)

    run = build(0.6).simulate(volumes=1500, tr=2.0, seed=2)
    data = pearson(band_passed(run.signals, 2.0, BAND))
    best = whole_brain.fit(build, data, [0.2, 0.5, 0.9], band=BAND)[0]
    assert best.coupling == pytest.approx(0.6, rel=0.15)


def test_the_mean_field_keeps_to_its_regime(fitted, weights):
    found = json.loads(fitted.read_text())["models"]["mean_field"]
    limit = coupling_limit(weights)
    assert max(match["coupling"] for match in found["tried"]) <= limit < 9.0
    assert found["regime"]["rate_mean"] == pytest.approx(3.06, abs=0.2)
    assert found["regime"]["rate_max"] < 4
    assert found["true_ranks"] == {}  # it has no bifurcation to change


def test_true_ranks(fitted, hopf):
    ranks = json.loads(fitted.read_text())["models"]["hopf"]["true_ranks"]
    for state in STATES:
        by_definition = ranks[state]
        assert 1 <= by_definition["stable_rank"] <= by_definition["participation_ratio"]
        assert by_definition["participation_ratio"] <= by_definition["pearson"]
        assert by_definition["pearson"] <= by_definition["pearson_sigma"] <= REGIONS
    assert ranks["awake"]["pearson"] < ranks["deep"]["pearson"]  # regions decouple
    alone = whole_brain.changed(hopf, {"coupling": 0.0})
    assert whole_brain.true_ranks(alone, {"x": {}}, BAND)["x"]["pearson"] == pytest.approx(REGIONS)


def test_rank_of_a_long_simulation_is_the_true_rank(hopf):
    run = hopf.simulate(volumes=20_000, tr=2.0, seed=3)
    found = whole_brain.matrix_ranks(pearson(band_passed(run.signals, 2.0, BAND)))
    for definition, value in whole_brain.matrix_ranks(hopf.connectivity(BAND)).items():
        assert found[definition] == pytest.approx(value, rel=0.05)


@pytest.mark.parametrize("model", ["hopf", "mean_field"])
def test_a_stored_model_is_the_fitted_one(fitted, person, model):
    found = whole_brain.load_model(fitted, person, model=model)
    stored = json.loads(fitted.read_text())["models"][model]
    data = pearson(band_passed(np.load(person)["bold"], 2.0, BAND))
    correlation = whole_brain.compare(found.connectivity(BAND), data)[1]
    assert correlation == pytest.approx(stored["correlation_linearised"])


def test_a_model_of_someone_else_is_refused(fitted, person, tmp_path):
    with np.load(person) as stored:
        np.savez(tmp_path / "Q.npz", **{**stored, "person": "Q"})
    with pytest.raises(ValueError, match=r"P.json is of P, .*Q.npz of Q"):
        whole_brain.load_model(fitted, tmp_path / "Q.npz", model="hopf")
    with pytest.raises(ValueError, match="has no 'other', but hopf, mean_field"):
        whole_brain.load_model(fitted, person, model="other")
    with pytest.raises(ValueError, match="unknown model 'other'"):
        whole_brain.fit_person(
            connectome=person, output=tmp_path / "x.json", models={"other": {"grid": [1.0]}},
            states={}, band=BAND, seed=1,
        )  # fmt: skip


def test_in_silico(fitted, person, tmp_path):
    arms = {"none": {}, "gain": {"gain": 1.2}, "noise": {"noise": 1.5}}
    settings = {
        "connectome": person, "fitted": fitted, "arms": arms, "volumes": 64, "tr": 2.0, "seeds": 2,
        "settle": 4.0, "band": BAND, "windows": [30], "step": 10, "draws": 2, "seed": 5,
    }  # fmt: skip
    for name in ("first", "again"):
        whole_brain.in_silico(**settings, output=tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "again").read_bytes()
    table = pd.read_parquet(tmp_path / "first")
    whole = table[(table["definition"] == "pearson") & (table["window"] == 0)]
    keyed = whole.set_index(["arm", "phase", "seed"])
    assert len(keyed) == 3 * 2 * 2
    # Before any change all arms are the same run; after it, an unchanged one is another run.
    before = keyed.xs("before", level="phase")["rank"].unstack("arm")
    assert (before["gain"] == before["none"]).all()
    after = keyed.xs("after", level="phase")["rank"].unstack("arm")
    assert (after["none"] != before["none"]).all()
    # The noise is the same in all arms, and its size changes no correlation in the linear regime.
    np.testing.assert_allclose(after["noise"], after["none"], rtol=0.05)
    exact = keyed.xs("after", level="phase")["exact"].unstack("arm")
    assert exact["noise"].tolist() == pytest.approx(exact["none"].tolist())
    model = whole_brain.load_model(fitted, person, model="mean_field")
    gained = whole_brain.changed(model, {"gain": 1.2}).connectivity(BAND)
    assert exact["gain"].tolist() == pytest.approx(
        [whole_brain.matrix_ranks(gained)["pearson"]] * 2
    )
    assert table.loc[table["definition"] == "sigma_centred", "exact"].isna().all()
    assert table["person"].unique().tolist() == ["P"]


def test_ramps(fitted, person, tmp_path):
    whole_brain.ramps(
        connectome=person, fitted=fitted, output=tmp_path / "r.npz", seeds=2, volumes=60, tr=2.0,
        changes={"coupling": [[40, 1.0], [80, 0.2]]}, settle=10.0, seed=1,
    )  # fmt: skip
    with np.load(tmp_path / "r.npz", allow_pickle=False) as stored:
        ramp, control = stored["ramp"], stored["control"]
        assert (str(stored["person"]), float(stored["tr"])) == ("P", 2.0)
    assert ramp.shape == control.shape == (2, 60, REGIONS)
    assert ramp.dtype == np.float32
    np.testing.assert_array_equal(ramp[:, :20], control[:, :20])
    assert (ramp[:, 21:] != control[:, 21:]).all()
    assert (ramp[0] != ramp[1]).all()


def test_stationarity():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(200, 1000, 5))
    found = np.array([whole_brain.stationarity(run) for run in x])
    assert (found < 0.05).mean() < 0.1
    growth = np.linspace(0, 1, 1000)[:, None]
    shared = (x[0] + growth * rng.normal(size=(1000, 1))) / np.sqrt(1 + growth**2)
    for run in (x[0] + growth, x[0] * (1 + growth), shared):  # mean, variance, correlation
        assert whole_brain.stationarity(run) < 0.01
