"""Noise-contrastive estimation between a student's and a teacher's embeddings."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, NEGATIVES, TEMPERATURE = 128, 512, 0.07


class Contrast(nn.Module):
    """−log h(t_i, s_i) − Σ_j log(1 − h(t_j, s_i)), and the same the other way round.

    h(t, s) = e^{t·s/0.07} / (e^{t·s/0.07} + m/M) with m negatives among M rows (Tian et al., ICLR
    2020, equation 19); s and t are linear maps to unit vectors in 128 dimensions. A student is set
    against at most 512 rows of the teacher spread evenly over all, a teacher against the other
    students of the batch.
    """

    teacher: Tensor
    bank: Tensor

    def __init__(self, width: int, teacher: Tensor) -> None:
        super().__init__()
        self.student_map = nn.Linear(width, WIDTH)
        self.teacher_map = nn.Linear(teacher.shape[1], WIDTH)
        there = torch.nonzero(teacher[:, 0].isfinite())[:, 0]
        spread = torch.linspace(0, max(0, len(there) - 1), min(NEGATIVES, len(there)))
        self.register_buffer("teacher", teacher, persistent=False)
        self.register_buffer("bank", there[spread.round().long()], persistent=False)
        self.population = len(there)

    def forward(self, hidden: Tensor, rows: Tensor) -> Tensor:
        """Return the mean over the batch's rows that the teacher delivered."""
        rows = rows.to(self.teacher.device)
        wanted = self.teacher[rows].to(hidden.dtype)
        there = wanted[:, 0].isfinite()
        if not bool(there.any()):
            return hidden.sum() * 0
        students = F.normalize(self.student_map(hidden[there]), dim=1)
        teachers = F.normalize(self.teacher_map(wanted[there]), dim=1)
        others = self.teacher[self.bank].to(hidden.dtype)
        negatives = F.normalize(self.teacher_map(others), dim=1)
        own = (students * teachers).sum(dim=1)
        own_rows = rows[there]
        forth = self.score(own, students @ negatives.T, own_rows[:, None] == self.bank[None])
        back = self.score(own, teachers @ students.T, own_rows[:, None] == own_rows[None])
        return forth + back

    def score(self, own: Tensor, others: Tensor, same: Tensor) -> Tensor:
        """Return the loss of likenesses (n,) among others (n, m), leaving out the ``same``."""
        count = max(1, others.shape[1] - 1)
        level = log(count / self.population)
        found = F.logsigmoid(level - others / TEMPERATURE).masked_fill(same, 0.0).sum(dim=1)
        return -(F.logsigmoid(own / TEMPERATURE - level) + found).mean()
