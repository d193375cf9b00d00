"""Shadow models: students of one party's releases, which never saw its private rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fedkd.models import classifier, training
from fedkd.models.determinism import single_thread
from fedkd.models.inputs import Subset
from fedkd.scenario import Model
from fedkd.seeds import numpy_generator, seed_for

SHADOWS = 4


def shadow_answers(
    model: Model,
    transfer: Sequence[str],
    released: NDArray[np.float64],
    suspects: Sequence[str],
    *,
    seed: int,
    party: str,
) -> NDArray[np.float64]:
    """Return answers (4, n, labels) of models distilled from what a party released.

    Each is trained on its own random half of the transfer rows, with the cross-entropy to
    ``released`` (rows, labels), so that they differ.
    """
    wanted = torch.from_numpy(released.astype(np.float32))
    found = []
    for number in range(SHADOWS):
        draw = numpy_generator(seed, party, number, "half of a shadow")
        half = np.sort(draw.permutation(len(transfer))[: max(1, len(transfer) // 2)])
        index = torch.from_numpy(half)

        def loss(
            logits: torch.Tensor, rows: torch.Tensor, index: torch.Tensor = index
        ) -> torch.Tensor:
            target = wanted[index[rows]].to(logits.device)
            return torch.nn.functional.cross_entropy(logits, target)

        own = seed_for(seed, party, number, "shadow")
        with single_thread():
            shadow = classifier.build(
                model,
                released.shape[1],
                seed=own,
                public_text=transfer,
                fit_text=transfer,
                cache=None,
            )
            inputs = Subset(shadow.inputs(transfer), half)
            training.fit(shadow, inputs, loss, model, seed=own)
            found.append(training.predict(shadow, suspects))
    return np.stack(found)
