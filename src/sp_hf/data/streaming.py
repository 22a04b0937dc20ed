"""Streaming training data with a position that can be saved and resumed exactly.

Letters: B images, S canvas side in px.

There are ``world_size * workers`` readers. Each row belongs to one reader in an epoch, each reader loops over its rows
for ever, in shuffled blocks (:mod:`sp_hf.data.stream_blocks` says how). Batches run across the border of an epoch, so
no row is dropped: in each of its epochs a reader shows every readable row once. Readers with fewer rows begin their
next epoch earlier. Rows mix within a block only: for one big shard sorted by class, take a large block, or load it
map-style.

Resuming. Every batch carries the position of its worker after that batch (``stream_state``). A worker runs ahead of
training, so the main process keeps the positions of consumed batches only, in a :class:`StreamPosition`. DataLoader
asks its workers in turn; after n consumed batches the next one is due from worker n % workers. A new DataLoader
begins with its own worker 0, which therefore plays logical worker n % workers, and so on round the circle.

In a training loop::

    loader = streaming_dataloader(images, batch_size=64, canvas_size=112, num_workers=2, seed=0,
                                  rank=rank, world_size=world_size, state=saved)   # saved: None at first
    position = StreamPosition(loader.dataset)
    for batch in loader:                              # for ever: bound the run by steps
        position.update(batch.pop("stream_state"))
        ledger.add(batch.pop("skipped"))
        ...                                           # train
        if time_to_save:
            save(position.state_dict(), rank)         # plain lists, dicts, numbers: JSON; one file a rank

In transformers' ``Trainer``: return the loader from ``get_train_dataloader`` without ``accelerator.prepare`` (it is
sharded by rank already), set ``max_steps`` (it has no length) and ``ignore_data_skip=True`` (the position skips),
update the position in ``training_step``, and save it with the random states of each rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..errors import InputError, InputTypeError
from .canvas import MAX_PIXELS, UnreadableImage, image_name
from .canvas_dataset import MAX_REPLACEMENTS, CanvasCollator, read_canvas
from .datasets import LoadedImages
from .stream_blocks import BlockReader, Row, rows_with_place, split_into_shards

StreamState = dict[str, Any]
"""Position of one logical worker: ``worker``; ``epoch``; ``row``, rows of its group read before the current block;
``stream``, the state of the ``datasets`` stream there (``None``: at its start); ``offset`` in the permuted block."""


class StreamingCanvases(IterableDataset):
    """Infinite stream of whole batches (so ``DataLoader`` needs ``batch_size=None``); see the module's docstring.

    Yields:
        ``canvases`` uint8 [B, 3, S, S], ``aspects`` float32 [B], ``labels`` int64 [B] (if there are any), ``skipped``:
        reports of unreadable images met on the way, ``stream_state``: the position after this batch.

    Args:
        images: from :func:`~sp_hf.data.datasets.load_images` with ``streaming=True``.
        batch_size: B.
        canvas_size: S, in px.
        workers: logical workers (at least 1, also when the main process reads itself).
        seed: of the shuffling; not negative.
        rank, world_size: which of how many processes this one is.
        shuffle_block: at least so many rows are shuffled together (and held in memory, still encoded); 1 keeps the
            order within shards.
        state: of :meth:`StreamPosition.state_dict`, to go on from there.
        max_pixels: images with more are refused.
        box_columns: columns of boxes to read, see :func:`~sp_hf.data.canvas_dataset.read_boxes`.

    Raises:
        ValueError: an argument is out of range, or ``state`` belongs to a stream that is laid out differently.
    """

    def __init__(
        self,
        images: LoadedImages,
        *,
        batch_size: int,
        canvas_size: int,
        workers: int = 1,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        shuffle_block: int = 1024,
        state: Mapping[str, Any] | None = None,
        max_pixels: int = MAX_PIXELS,
        box_columns: Sequence[str] = (),
    ) -> None:
        if not images.streaming:
            raise InputTypeError(
                f"{images.description} is not a stream; load it with streaming=True, or use CanvasDataset"
            )
        _check_at_least(1, batch_size=batch_size, workers=workers, world_size=world_size, shuffle_block=shuffle_block)
        _check_at_least(0, seed=seed, rank=rank)
        if rank >= world_size:
            raise InputError(f"rank is {rank}; it must be below world_size={world_size}")
        self.images = images
        self.stream = split_into_shards(images.dataset, world_size * workers)
        self.batch_size, self.canvas_size, self.max_pixels = batch_size, canvas_size, max_pixels
        self.workers, self.seed, self.shuffle_block = workers, seed, shuffle_block
        self.rank, self.world_size, self.box_columns = rank, world_size, tuple(box_columns)
        self.start = _checked_state(state, self.layout)

    @property
    def layout(self) -> dict[str, int | str]:
        """What a position depends on: a state of another layout cannot be resumed."""
        return {
            "dataset": self.images.description,
            "fingerprint": self.images.fingerprint,
            "shards": self.stream.num_shards,
            "seed": self.seed,
            "rank": self.rank,
            "world_size": self.world_size,
            "workers": self.workers,
            "shuffle_block": self.shuffle_block,
        }

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        physical = 0 if info is None else info.id
        if info is not None:
            if info.num_workers != self.workers:
                raise InputError(
                    f"DataLoader has {info.num_workers} workers; this stream is laid out for {self.workers}"
                )
            _reset_filesystems_after_fork()
        worker = (physical + self.start["batches"]) % self.workers
        yield from self._batches(worker, self.start["workers"][worker])

    def _batches(self, worker: int, state: StreamState | None) -> Iterator[dict[str, Any]]:
        collate = CanvasCollator()
        samples: list[dict[str, Any]] = []
        skipped: list[str] = []
        unreadable_in_a_row = 0
        for row, position in self._rows(worker, state):
            try:
                samples.append(read_canvas(row, self.images, self.canvas_size, self.max_pixels, self.box_columns))
            except UnreadableImage as error:
                skipped.append(self._report(row, error))
                unreadable_in_a_row += 1
                if unreadable_in_a_row > MAX_REPLACEMENTS:
                    reason = f"{unreadable_in_a_row} images in a row cannot be read; the last: {skipped[-1]}"
                    raise UnreadableImage(self.images.description, reason) from error
                continue
            unreadable_in_a_row = 0
            if len(samples) == self.batch_size:
                yield collate(samples) | {"skipped": skipped, "stream_state": position}
                samples, skipped = [], []

    def _rows(self, worker: int, state: StreamState | None) -> Iterator[tuple[Row, StreamState]]:
        """Shuffled rows of one reader for ever, each with the position after it."""
        reader = BlockReader(
            self.stream,
            reader=self.rank * self.workers + worker,
            readers=self.world_size * self.workers,
            block_size=self.shuffle_block,
            seed=self.seed,
        )
        start = {} if state is None else {key: state[key] for key in ("epoch", "row", "stream")}
        for row, block, offset in rows_with_place(reader.blocks(**start), 0 if state is None else state["offset"]):
            place = {"epoch": block.epoch, "row": block.row, "stream": block.stream, "offset": offset}
            yield row, {"worker": worker, **place}

    def _report(self, row: Row, error: UnreadableImage) -> str:
        return f"{image_name(row[self.images.image_column])} of {self.images.description}: {error.reason}"


class StreamPosition:
    """The position of a run in its stream: kept by the main process of each rank, from consumed batches.

    Args:
        dataset: of the DataLoader; the position begins where it begins.
    """

    def __init__(self, dataset: StreamingCanvases) -> None:
        self.layout = dataset.layout
        self.batches: int = dataset.start["batches"]
        self.workers: list[StreamState | None] = list(dataset.start["workers"])

    @property
    def epoch(self) -> int:
        """Epochs that every reader of this rank has finished."""
        return min(0 if state is None else state["epoch"] for state in self.workers)

    def update(self, stream_state: StreamState) -> None:
        """Take in the ``stream_state`` of a batch as it is consumed, in the order of the DataLoader.

        Raises:
            ValueError: the batch is not the one that is due: another was left out, or taken twice, or the DataLoader
                was iterated anew (it then begins where it began).
        """
        due = self.batches % len(self.workers)
        if stream_state["worker"] != due or _place(stream_state) <= _place(self.workers[due]):
            raise InputError(
                f"batch {self.batches} is due from worker {due}, from behind {_place(self.workers[due])} (epoch, row, "
                f"offset); got one of worker {stream_state['worker']}, {_place(stream_state)}. "
                "Update the position with every batch, once, in order, and iterate the DataLoader only once"
            )
        self.workers[due] = stream_state
        self.batches += 1

    def state_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers: fit for JSON."""
        return {"layout": self.layout, "batches": self.batches, "workers": list(self.workers)}


def streaming_dataloader(
    images: LoadedImages,
    *,
    batch_size: int,
    canvas_size: int,
    num_workers: int = 0,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    shuffle_block: int = 1024,
    state: Mapping[str, Any] | None = None,
    max_pixels: int = MAX_PIXELS,
    box_columns: Sequence[str] = (),
    pin_memory: bool = False,
    prefetch_factor: int | None = None,
) -> DataLoader:
    """DataLoader over :class:`StreamingCanvases`, which see. It never ends, and leaves global random states alone."""
    dataset = StreamingCanvases(
        images,
        batch_size=batch_size,
        canvas_size=canvas_size,
        workers=max(1, num_workers),
        seed=seed,
        rank=rank,
        world_size=world_size,
        shuffle_block=shuffle_block,
        state=state,
        max_pixels=max_pixels,
        box_columns=box_columns,
    )
    return DataLoader(
        dataset,
        batch_size=None,
        num_workers=num_workers,
        collate_fn=_as_it_is,
        pin_memory=pin_memory,
        prefetch_factor=prefetch_factor if num_workers else None,
        generator=torch.Generator().manual_seed(seed),
    )


def _place(state: StreamState | None) -> tuple[int, int, int]:
    return (0, 0, 0) if state is None else (state["epoch"], state["row"], state["offset"])


def _as_it_is(batch: Any) -> Any:
    return batch


def _reset_filesystems_after_fork() -> None:
    """Remote files are read through an event loop in a thread, which a fork does not copy."""
    import fsspec.asyn

    fsspec.asyn.reset_lock()


def _check_at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise InputError(f"{name} is {value}; it must be at least {least}")


def _checked_state(state: Mapping[str, Any] | None, layout: Mapping[str, Any]) -> dict[str, Any]:
    if state is None:
        return {"batches": 0, "workers": [None] * int(layout["workers"])}
    saved = state["layout"]
    changed = [
        f"{name} was {saved.get(name)!r} and is {value!r}" for name, value in layout.items() if saved.get(name) != value
    ]
    if changed:
        raise InputError(
            f"the saved position cannot be resumed in this stream: {'; '.join(changed)}. Start it as it was "
            "(num_workers counts at least 1), or train on without the position"
        )
    return {"batches": state["batches"], "workers": list(state["workers"])}
