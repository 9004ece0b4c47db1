"""The notebook as it is committed, and on a folder of one's own, without a Jupyter kernel."""

import ast
import json
from pathlib import Path

import matplotlib.figure
import pandas as pd
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

NOTEBOOK = Path(__file__).parents[3] / "notebooks" / "thermodynamic_scaling_analysis.ipynb"
SECTIONS = [
    "1. Set-up",
    "2. Configuration",
    "3. Loading",
    "4. Core analysis",
    "5. Information theory",
    "6. Renormalisation",
    "7. Replica theory",
    "8. Methods",
    "9. Scaling laws",
    "10. Figures",
    "11. Monte Carlo",
    "12. Comparison of models",
    "13. Conclusions",
]


@pytest.fixture(scope="module")
def cells():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def execute(cells, **parameters):
    """Run code cells in one namespace; give it back with what the cells would display.

    Lines of magic are for Jupyter alone. Parameters replace those of the cell that is tagged so.
    """
    namespace, shown = {"__name__": "__main__"}, []
    for number, cell in enumerate(cells):
        if cell["cell_type"] != "code":
            continue
        lines = "".join(cell["source"]).splitlines()
        body = ast.parse("\n".join("" if line.startswith("%") else line for line in lines)).body
        last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
        name = f"cell {number}"
        exec(compile(ast.Module(body, []), name, "exec"), namespace)
        if last is not None:
            code = compile(ast.Expression(last.value), name, "eval")
            shown.append(eval(code, namespace))  # noqa: S307
        if "parameters" in cell["metadata"].get("tags", []):
            unknown = set(parameters) - set(namespace)
            assert not unknown, f"the notebook has no parameters {unknown}"
            namespace |= parameters
    return namespace, shown


def test_it_has_the_published_sections_and_no_outputs(cells):
    text = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    found = [line[3:] for cell in text for line in cell.splitlines() if line.startswith("## ")]
    assert found == SECTIONS
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in cells) == 1


def test_it_runs_as_committed(cells, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    namespace, shown = execute(cells)
    figures = [each for each in shown if isinstance(each, matplotlib.figure.Figure)]
    assert len(figures) == 9
    assert all(figure.axes for figure in figures)
    rows = namespace["results_df"]
    assert rows["model_name"].nunique() == 5
    assert len(rows) == 5 * 2 * 5
    # random weights are noise: five in a hundred would lie there, and the test is of rank
    assert (rows["p"] < 0.05).mean() < 0.2
    assert namespace["conclusions"]["matrices"] == len(rows)
    assert isinstance(shown[-1], pd.DataFrame)
    assert not any(tmp_path.iterdir())  # writes nothing unless told where


def test_it_runs_on_a_folder_and_saves_what_it_made(cells, tmp_path):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=48, max_position_embeddings=32,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    made = tmp_path / "made"
    namespace, _ = execute(cells, MODELS={"mine": tmp_path / "model"}, SAVE_TO=made)
    assert set(namespace["results_df"]["model_architecture"]) == {"llama"}
    assert namespace["scaling"] is None
    assert {"specific_heat.png", "scaling_law.png", "perturbation_response.png"} <= {
        path.name for path in made.iterdir()
    }


def test_a_scale_that_does_not_exist_is_named(cells):
    with pytest.raises(ValueError, match="SCALE must be one of smoke, full"):
        execute(cells, SCALE="huge")
