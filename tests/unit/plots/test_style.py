"""One name and one look for each arm, in every figure."""

from pathlib import Path

from tgn.config import read_yaml
from tgn.plots.fig8 import DEFINITIONS
from tgn.plots.style import NETWORKS

ROOT = Path(__file__).parents[3]


def test_every_arm_of_figure_8_has_a_look_of_its_own():
    arms = read_yaml(ROOT / "config.yaml")["rank_dynamics"]["arms"]
    assert set(arms) <= set(NETWORKS)
    assert len({look.label for look in NETWORKS.values()}) == len(NETWORKS)
    assert len({look[1:] for look in NETWORKS.values()}) == len(NETWORKS)


def test_a_definition_of_rank_never_looks_like_another_arm():
    """All definitions are of the intact network; only the one its arm is drawn with looks so."""
    others = {look[1:] for arm, look in NETWORKS.items() if arm not in ("intact", "nothing")}
    assert others.isdisjoint(look[1:] for look in DEFINITIONS.values())
    assert DEFINITIONS["centred"][1:] == NETWORKS["intact"][1:]
