"""The one decorator of all kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def kernel(function: Callable) -> Any:
    """Compile `function` on first use, without the interpreter lock, and keep the result.

    numba keeps it in `NUMBA_CACHE_DIR`, else beside the source file, else, if that is read-only,
    in the user's cache directory. Where none can be written, every process compiles anew. It
    notices a change of the file itself but not of kernels that it calls in other files: after
    editing those, delete `__pycache__`.
    """
    options: Any = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # "no locator available"
        return numba.njit(function, **options)
