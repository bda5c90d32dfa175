"""Importing anything of this project first settles how idle threads wait, which OpenMP reads when torch is loaded.

By default they spin, for milliseconds at the end of each small product: on a machine that is busy otherwise, the thread
they wait for does not get its turn for that long. Asleep they cost nothing. What the user has set is kept.
"""

import os

_POLICIES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")

if not any(name in os.environ for name in _POLICIES):
    os.environ["OMP_WAIT_POLICY"] = "passive"
