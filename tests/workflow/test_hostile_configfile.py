"""A configuration that is made to do harm stops a start of Snakemake quickly, with its reason."""

import pytest
from running import copy_checkout, snakemake

LAUGHS = "a0: &a0 {x: 1}\n" + "\n".join(
    f"a{n}: &a{n} {{{', '.join(f'k{m}: *a{n - 1}' for m in range(9))}}}" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (LAUGHS, "config.yaml cannot be read as YAML: with aliases written out"),
        ("default_scale: laptop\ndefault_scale: smoke", "key default_scale stands twice"),
        ("- laptop", "config.yaml holds no mapping"),
        ("[" * 50_000, "nested too deeply"),
    ],
    ids=["aliases", "twice", "a list", "deep"],
)
def test_a_trap_in_the_configuration_is_refused(tmp_path, content, says):
    folder = copy_checkout(tmp_path)
    (folder / "config.yaml").write_text(content)
    run = snakemake(folder, "--dry-run")
    assert run.returncode != 0
    assert says in run.stdout + run.stderr
    assert "Traceback" not in run.stderr


def test_a_key_that_stands_twice_in_a_file_of_ones_own_is_refused(tmp_path, checkout):
    path = tmp_path / "own.yaml"
    path.write_text("fmri: {seed: 1}\nfmri: {seed: 2}")
    run = snakemake(checkout, "--dry-run", "--configfile", str(path))
    assert run.returncode != 0
    assert f"{path} cannot be read as YAML: key fmri stands twice" in run.stdout + run.stderr
