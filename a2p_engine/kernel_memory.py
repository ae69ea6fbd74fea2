"""A bound on what oneDNN keeps for windows of lengths that may never come again.

CTranslate2 and torch prepare a convolution for each length of a window and keep it until there are
1,024 of them. Windows of live audio have hundreds of lengths, so a server would grow for half an
hour. Preparing those of a window anew takes a small part of encoding it; rounding lengths up, so
that they repeat, would cost as much and change what is heard.
"""

from __future__ import annotations

import os

CAPACITY_VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
# An encoder has two convolutions, a layer of a torch model no more than a handful of products.
CAPACITY = 32


def bound_kernels() -> None:
    """Keep ``CAPACITY`` prepared kernels, unless the environment says otherwise.

    The libraries read it once, when the first model runs.
    """
    os.environ.setdefault(CAPACITY_VARIABLE, str(CAPACITY))
