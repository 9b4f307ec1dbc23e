"""A plane to look at the sampled features in: principal components, in which prototypes have a place as well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA

from train.selection.state import CurationState


@dataclass(frozen=True)
class FeatureMap:
    """`points` [n, 2] and `roles` [n] of the sampled pairs that were scored, and `prototypes` [K, 2], in one plane.

    `explained` is the share of the features' variance that each of the two axes tells.
    """

    points: np.ndarray
    roles: np.ndarray
    prototypes: np.ndarray
    explained: tuple[float, float]


def map_features(state: CurationState) -> FeatureMap | None:
    """The plane of the first two principal components of the sampled features; None with fewer than three of them.

    Sampled rows whose features are zero were not scored, and are left out.
    """
    if state.map_features is None:
        return None
    features = state.map_features.float().numpy()
    roles = state.roles.numpy()[state.map_rows.numpy()]
    usable = np.isfinite(features).all(axis=1) & features.any(axis=1) & (roles >= 0)
    features, roles = features[usable], roles[usable]
    if len(features) < 3:
        return None
    plane = PCA(n_components=2, random_state=0).fit(features)
    prototypes = np.empty((0, 2))
    if state.prototypes is not None:
        prototypes = plane.transform(state.prototypes.cpu().float().numpy())
    first, second = np.nan_to_num(plane.explained_variance_ratio_)
    return FeatureMap(plane.transform(features), roles, prototypes, (float(first), float(second)))
