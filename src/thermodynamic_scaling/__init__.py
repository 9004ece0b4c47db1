"""Thermodynamics of pretrained weight matrices: a façade over :mod:`tgn`."""
