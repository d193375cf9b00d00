"""What keeps a computation the same bit for bit: one thread, and no global generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def single_thread() -> Iterator[None]:
    """Run torch and the BLAS and OpenMP libraries on one thread; restore their counts after.

    Sums then have one order, whatever the number of cores. Thread counts belong to the process:
    do not enter this from two threads at once.
    """
    threads = torch.get_num_threads()
    with threadpool_limits(limits=1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@contextmanager
def forked_generator(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's default generators inside the block and put their state back after it.

    For code that takes no generator: dropout, and the initial weights of transformers' modules.
    ``device`` is the GPU whose generator is needed besides the CPU's.
    """
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed(seed)
        yield


def best_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
