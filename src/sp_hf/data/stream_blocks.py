"""One reader's share of a stream, in shuffled blocks that can be found again.

Who reads what. With ``g = gcd(number of shards, readers)``, the shards are dealt to ``g`` groups of readers, and the
readers of one group take turns row by row. So every row belongs to exactly one reader in an epoch, whatever the
numbers: readers that divide the number of shards never open each other's shards, and otherwise a shard is read by
several of them, each keeping only its own rows.

Epochs. A reader loops over its rows for ever; the order of its shards and the shuffling differ between its epochs.

Shuffling. A reader collects a block of its rows, still encoded, and permutes them by (seed, epoch, reader, first row of
the block). Unlike a shuffle buffer, a block is a pure function of where it starts. Rows mix within their blocks only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from datasets import IterableDataset

from ..boundary import reading_images
from ..errors import InputError

Row = Mapping[str, Any]

_CHUNK = 16  # rows read from the stream at once: one at a time costs several times more
_FEW_SHARDS = 16  # below this, files are split into row groups where they can be (which reads every file's footer)


class Block(NamedTuple):
    """Rows in their shuffled order, and where they start: all it takes to read them again."""

    epoch: int
    row: int  # rows that the reader's group has read in this epoch before the block
    stream: dict[str, Any] | None  # state of the reader's stream there; None at the start of an epoch
    rows: list[Row]


def split_into_shards(stream: IterableDataset, readers: int) -> IterableDataset:
    """The stream with parquet files split into row groups, if its shards are few. Others stay as they are."""
    return stream.reshard() if stream.num_shards < max(_FEW_SHARDS, readers) else stream


class BlockReader:
    """The blocks of one reader, for ever.

    Args:
        stream: the whole stream.
        reader, readers: which of how many readers this is.
        block_size: a block has at least so many rows (the last of an epoch may have fewer).
        seed: of the order of shards and of the permutations.
    """

    def __init__(self, stream: IterableDataset, *, reader: int, readers: int, block_size: int, seed: int) -> None:
        groups = math.gcd(stream.num_shards, readers)
        self._turn, self._turns = reader // groups, readers // groups
        # Also makes a copy of its own: in the original, the epoch lies in memory that all workers share.
        self._stream = stream.shard(num_shards=groups, index=reader % groups, contiguous=False)
        self._reader, self._block_size, self._seed = reader, block_size, seed

    def blocks(self, epoch: int = 0, row: int = 0, stream: dict[str, Any] | None = None) -> Iterator[Block | None]:
        """Blocks from the one that starts at (epoch, row, stream) on.

        ``None`` comes in between, each time some more rows of the next block have been read: whoever takes one for
        every few rows it works on has the next block ready in time, without a pause to read a whole block.

        Raises:
            ValueError: the reader has no rows.
        """
        while True:
            has_rows = row > 0
            for block in self._blocks_of_epoch(epoch, row, stream):
                has_rows = True
                yield block
            if not has_rows:
                raise InputError(
                    f"the stream has no rows for reader {self._reader}: it has fewer rows than there are readers "
                    "(ranks x DataLoader workers); use fewer workers"
                )
            epoch, row, stream = epoch + 1, 0, None

    def _blocks_of_epoch(self, epoch: int, row: int, stream: dict[str, Any] | None) -> Iterator[Block | None]:
        self._stream.set_epoch(_shard_order_seed(self._seed, epoch))
        self._stream.load_state_dict(stream)
        first, announced = row, 0
        rows: list[Mapping[str, Any]] = []
        # Unlike __iter__, iter() does not share out rows among DataLoader's workers by itself.
        for chunk in self._chunks():
            columns = list(chunk)
            for values in zip(*chunk.values(), strict=True):
                if row % self._turns == self._turn:
                    rows.append(dict(zip(columns, values, strict=True)))
                row += 1
            if len(rows) >= self._block_size:
                yield self._block(epoch, first, stream, rows)
                first, rows, announced, stream = row, [], 0, self._stream.state_dict()
            elif len(rows) >= announced + _CHUNK:
                announced = len(rows)
                yield None
        if rows:
            yield self._block(epoch, first, stream, rows)

    def _chunks(self) -> Iterator[dict[str, list[Any]]]:
        chunks = iter(self._stream.iter(batch_size=min(_CHUNK, self._block_size)))
        while True:
            with reading_images("stream of images"):
                try:
                    chunk = next(chunks)
                except StopIteration:
                    return
            yield chunk

    def _block(self, epoch: int, first: int, stream: dict[str, Any] | None, rows: list[Row]) -> Block:
        order = np.random.default_rng([self._seed, epoch, self._reader, first]).permutation(len(rows))
        return Block(epoch, first, stream, [rows[place] for place in order])


def rows_with_place(blocks: Iterator[Block | None], offset: int = 0) -> Iterator[tuple[Row, Block, int]]:
    """Row after row: (row, its block, rows of the block taken so far), reading the next block on the way.

    Args:
        blocks: of :meth:`BlockReader.blocks`.
        offset: rows of the first block to leave out.
    """
    block = next(filter(None, blocks))
    while True:
        upcoming = None
        for place in range(offset, len(block.rows)):
            yield block.rows[place], block, place + 1
            if upcoming is None and place % _CHUNK == 0:
                upcoming = next(blocks)
        block, offset = upcoming or next(filter(None, blocks)), 0


def _shard_order_seed(seed: int, epoch: int) -> int:
    """Positive, as ``datasets`` reorders shards by epochs above 0 only."""
    return 1 + int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
