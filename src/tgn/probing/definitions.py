"""The definitions of rank that figure 8 compares: which states enter, and how they are centred."""

from __future__ import annotations

from dataclasses import dataclass

from tgn.rank import Centre


@dataclass(frozen=True)
class Definition:
    """One way to turn the states of a passage, (tokens, channels), into a spectrum.

    ``first`` keeps the first position, where trained models park a huge vector ("attention
    sink"); ``channels`` keeps the heaviest channels; ``shuffled`` permutes the values inside
    each channel, the null in which tokens share nothing.
    """

    centre: Centre
    first: bool = False
    channels: bool = True
    shuffled: bool = False


DEFINITIONS = {
    "published": Definition(centre="none", first=True),
    "uncentred": Definition(centre="none"),
    "centred_with_first": Definition(centre="columns", first=True),
    "centred": Definition(centre="columns"),
    "standardised": Definition(centre="zscore"),
    "without_outliers": Definition(centre="columns", channels=False),
    "shuffled_values": Definition(centre="columns", shuffled=True),
}
PRIMARY = "centred"
NULL = "shuffled_values"
CORE = ("published", "uncentred", "centred", "without_outliers")
FULL = tuple(DEFINITIONS)
