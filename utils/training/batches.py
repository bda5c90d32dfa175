"""How the batches of a task reach the training process: from loader processes, or from the device itself."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from utils.training.clock import Clock
from utils.training.signals import ignore_interrupts
from utils.training.task import Batch, Task

ENDLESS = 2**40  # steps of a run that ends by the clock


class Batches(Dataset):
    """Batches by number, for loader processes."""

    def __init__(self, task: Task, clock: Clock, done: int, rank: int, world: int) -> None:
        self.task, self.start, self.rank, self.world = task, done + 1, rank, world
        self.count = ENDLESS if clock.budget else max(0, clock.config.steps - done)
        self.steps, self.timed = clock.config.steps, bool(clock.budget)
        self.progress = torch.zeros(1, dtype=torch.float64)  # of the run, as loader processes see it

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Batch:
        if index >= len(self):
            raise IndexError(index)
        step = self.start + index
        progress = float(self.progress) if self.timed else step / self.steps
        self.task.progress, self.task.position = progress, progress * self.steps if self.timed else step
        return self.task.shard(self.task.batch(step), self.rank, self.world)

    def loaded(self, workers: int, device: torch.device) -> Iterator[Batch]:
        """All batches in order, made by `workers` processes."""
        pinned = device.type == "cuda"
        if workers:
            self.progress.share_memory_()
        loader = DataLoader(
            self, batch_size=None, num_workers=workers, worker_init_fn=ignore_interrupts, pin_memory=pinned
        )
        return iter(loader) if len(self) else iter(())

    def made(self) -> Iterator[Batch]:
        """All batches in order, made in this process."""
        return (self[index] for index in range(len(self)))


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Its tensors there; the rest as it is."""
    return {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in batch.items()}


def rows(batch: Batch) -> int:
    """Items in a batch: the rows of its first tensor."""
    return next((len(value) for value in batch.values() if isinstance(value, Tensor)), 0)


def loader_died(error: BaseException | None) -> bool:
    """Torch says so wherever the run is, so that the file it writes fails too; or a batch breaks off first."""
    while error is not None:
        if str(error).startswith("DataLoader worker (pid"):
            return True
        if isinstance(error, ConnectionError | EOFError) and not str(error).startswith("Caught"):  # in the loader
            return True
        error = error.__cause__ or error.__context__
    return False
