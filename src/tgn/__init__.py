"""Thermodynamic Gated Networks: models, measurements and verdicts, usable without Snakemake."""
