"""Importing anything of this project first settles how idle threads wait, which OpenMP reads when torch is loaded.

By default they spin, for milliseconds at the end of each small product: on a machine that is busy otherwise, the thread
they wait for does not get its turn for that long. Asleep they cost nothing. What the user has set is kept.
"""

import ctypes
import os
import sys

_POLICIES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")

if not any(name in os.environ for name in _POLICIES):
    os.environ["OMP_WAIT_POLICY"] = "passive"

# Kernels that are kept: of torch for each kind of operation, and of oneDNN for all. A sentence needs some 45 in all,
# 25 of a kind; every one takes up to 0.3 MiB in either, and sentences of another length need others.
KERNELS = 64


def bound_kernels() -> None:
    """Keep the kernels of a few lengths, not of the last thousand: for processes that speak many different texts.

    Call it before torch's first operation. Training goes round several hundred in every step and keeps the default.
    """
    os.environ.setdefault("LRU_CACHE_CAPACITY", str(KERNELS))
    if "DNNL_PRIMITIVE_CACHE_CAPACITY" not in os.environ:  # the older name of the same
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS))


def return_memory() -> None:
    """Give what was freed back to the system, where the C library can (glibc).

    Arrays of a text's length leave gaps that a text of another length does not fit: without this, a process that speaks
    keeps some 100 MiB of them.
    """
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
