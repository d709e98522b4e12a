"""Distinguish training from control examples by their texts alone: a classifier that never sees the model.

Where it does as well as a memorization score, the two sets differ in style or origin, and the score may show no more
than that (Das, Zhang and Tramèr, arXiv 2406.16201).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ibft.errors import UserError

if TYPE_CHECKING:
    from ibft.statistics.groups import Codes

__all__ = ["FEATURES", "MAX_EXAMPLES", "blind_values"]

MAX_EXAMPLES = 5_000
"""Most examples of each set. With the next number it bounds the memory to 1 GB; a quarter of that is usual."""
_MAX_CHARACTERS = 8_000
FEATURES = (
    "Which words, numbers and punctuation marks occur, and which pairs of neighbors (hashed), in a logistic regression "
    "that is always asked about files it was not trained on."
)
# One classifier, fixed before anything was measured: the best of several would be too good by chance.
_NUM_FOLDS = 5
_NUM_FEATURES = 2**18
_INVERSE_REGULARIZATION = 10.0
# scikit-learn's own pattern drops punctuation and names of one letter.
_TOKEN = r"\w+|[^\w\s]"


def blind_values(
    train: Sequence[str],
    control: Sequence[str],
    *,
    groups: tuple[Codes, Codes] | None = None,
    seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the log-odds that each text is of the control set, by a classifier that was trained without this text.

    Lower = like the training data. Five-fold cross-validation, in which a group (the functions of one file, the copies
    of one function) is never on both sides of a split. The features are which hashed 1- and 2-grams (2^18) occur in a
    text's first 8,000 characters, rows of norm 1; L2 penalty with C = 10. The classifier is never asked about what it
    was trained on, so an AUROC below 0.5 is chance as well, and is not turned around.

    Args:
        train: M texts, as the model scores them; at most `MAX_EXAMPLES`.
        control: N texts, at most `MAX_EXAMPLES`.
        groups: M and N codes; equal codes are one group. None: every text is a group of its own.
        seed: random seed of the folds and the solver.

    Returns:
        M and N values; NaN for all where a set has fewer groups than folds, or a fold would leave one without texts.

    Raises:
        UserError: scikit-learn is not installed.
        ValueError: more than `MAX_EXAMPLES` texts of a set.
    """
    if max(len(train), len(control)) > MAX_EXAMPLES:
        raise ValueError(f"{len(train)} and {len(control)} texts: draw at most {MAX_EXAMPLES} of each set first")
    is_control = np.repeat([0, 1], [len(train), len(control)])
    values: NDArray[np.float64] = np.full(len(is_control), np.nan)
    sides = groups or (range(len(train)), range(len(train), len(is_control)))
    if min(len(np.unique(np.asarray(side))) for side in sides) >= _NUM_FOLDS:
        codes = np.concatenate([np.asarray(side, np.int64) for side in sides])
        values = _out_of_fold([text[:_MAX_CHARACTERS] for text in (*train, *control)], is_control, codes, seed)
    return values[: len(train)], values[len(train) :]


def _out_of_fold(
    texts: Sequence[str], is_control: NDArray[np.int64], codes: NDArray[np.int64], seed: int
) -> NDArray[np.float64]:
    """Return each text's log-odds by a classifier that was trained without its group; NaN if a fold lacks a set."""
    try:
        from sklearn.feature_extraction.text import HashingVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
    except ImportError:
        raise UserError(
            "scikit-learn is not installed: the blind classifier beside the scores needs it. "
            "Run `pip install 'ibft[audit]'`."
        ) from None
    vectorizer = HashingVectorizer(
        n_features=_NUM_FEATURES,
        token_pattern=_TOKEN,
        ngram_range=(1, 2),
        lowercase=False,
        binary=True,
        alternate_sign=False,  # with signs, two words of one hash could cancel each other
    )
    features = vectorizer.transform(texts)
    # With groups, since names that only one file has would show where its other functions belong, and the classifier
    # would look better than the sets are different. Groups of one need none of the slow search for such folds.
    if len(np.unique(codes)) == len(codes):
        splits = StratifiedKFold(_NUM_FOLDS, shuffle=True, random_state=seed).split(features, is_control)
    else:
        splits = StratifiedGroupKFold(_NUM_FOLDS, shuffle=True, random_state=seed).split(features, is_control, codes)
    values = np.full(len(is_control), np.nan)
    for known, asked in splits:
        # With few and large groups a fold can take all of one set.
        if len(np.unique(is_control[known])) < 2:
            return np.full(len(is_control), np.nan)
        classifier = LogisticRegression(C=_INVERSE_REGULARIZATION, solver="liblinear", random_state=seed)
        values[asked] = classifier.fit(features[known], is_control[known]).decision_function(features[asked])
    return values
