"""Where a sequence of numbers occurs in a long one: a suffix array, and the longest match from each place on.

Everything is done for all places at once with numpy, so ten million tokens are sorted in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]

MOST = 1 << 14  # tokens to which suffixes are sorted, and the longest match that is found


@dataclass(frozen=True)
class Match:
    """The longest run of one sequence that occurs in the corpus.

    Attributes:
        length: its tokens; 0 where nothing occurs.
        start: where it begins in the sequence.
        place: where it occurs in the corpus.
    """

    length: int
    start: int
    place: int


class SuffixArray:
    """The suffixes of a sequence in order (Manber and Myers 1993).

    They are sorted by their first tokens, as many as a machine word holds, then by twice as many, and so on; what is in
    order already is left alone from there on (Larsson and Sadakane 2007).

    Args:
        ids: (N,) from 1 on; 0 is a border, which nothing matches.
    """

    def __init__(self, ids: Ints) -> None:
        self.ids = np.append(ids, np.int32(0))  # the end is a border too
        self.order = _sorted(self.ids)
        counts = np.bincount(self.ids, minlength=int(self.ids.max()) + 1)
        self.starts = np.concatenate([[0], np.cumsum(counts)])  # of the suffixes that begin with a token

    def longest(self, sequences: list[Ints]) -> list[Match]:
        """The longest match of each sequence, the first of several; ids that the corpus lacks are 0 or negative."""
        border = np.zeros(1, np.int32)
        joined = np.concatenate([part for s in sequences for part in (s, border)] or [border])
        lengths, places = self._lengths(joined)
        found, first = [], 0
        for sequence in sequences:
            best = first + int(lengths[first : first + len(sequence) + 1].argmax())
            found.append(Match(int(lengths[best]), best - first, int(places[best])))
            first += len(sequence) + 1
        return found

    def _lengths(self, queries: Ints) -> tuple[Ints, Longs]:
        """(Q,) how long the match from each place is, and (Q,) one place where it occurs.

        A place whose match is the rest of an earlier one's is not followed to its end: it cannot be the longest.
        """
        lengths, places = np.zeros(len(queries), np.int32), np.full(len(queries), -1, np.int64)
        known = (queries > 0) & (queries < len(self.starts) - 1)
        at = np.flatnonzero(known)  # (A,) places that go on
        low, high = self.starts[queries[at]], self.starts[queries[at] + 1]  # (A,) the suffixes that match so far
        at, low, high = at[high > low], low[high > low], high[high > low]
        for depth in range(1, MOST):
            lengths[at], places[at] = depth, self.order[low]
            token = queries[np.minimum(at + depth, len(queries) - 1)]
            goes = token > 0
            at, low, high, token = at[goes], low[goes], high[goes], token[goes]
            if not len(at):
                break
            first = self._bound(low, high, depth, token)
            last = self._bound(first, high, depth, token + 1)
            goes = last > first
            # At + 1 was matched with one token less; where that occurs as often, it occurs nowhere else.
            covered = np.zeros(len(at), bool)
            covered[1:] = goes[:-1] & (at[1:] == at[:-1] + 1) & ((last - first)[:-1] == (high - low)[1:])
            goes &= ~covered
            at, low, high = at[goes], first[goes], last[goes]
        return lengths, places

    def _bound(self, low: Longs, high: Longs, depth: int, token: Ints) -> Longs:
        """(A,) the first suffix from low up to high whose token at `depth` is not below `token`."""
        low, high = low.copy(), high.copy()
        end = len(self.ids) - 1
        while True:
            open_ = np.flatnonzero(low < high)
            if not len(open_):
                return low
            middle = (low[open_] + high[open_]) >> 1
            below = self.ids[np.minimum(self.order[middle] + depth, end)] < token[open_]
            low[open_] = np.where(below, middle + 1, low[open_])
            high[open_] = np.where(below, high[open_], middle)


def _sorted(ids: Ints) -> Ints:
    """(N,) the places of the suffixes in order."""
    bits = int(ids.max()).bit_length() or 1
    taken = max(1, min(63 // bits, 8))
    key = np.zeros(len(ids), np.int64)
    for n in range(taken):
        key <<= bits
        key[: max(0, len(ids) - n)] |= ids[n:]
    order = np.argsort(key).astype(np.int32)
    begins = np.flatnonzero(_changes(key[order]))  # of groups of suffixes that are equal so far
    del key
    rank = np.empty(len(ids), np.int32)
    rank[order] = np.repeat(begins, np.diff(begins, append=len(ids)))
    open_ = _unsorted(begins, len(ids))
    while len(open_) and taken < MOST:
        suffixes = order[open_]
        after = suffixes.astype(np.int64) + taken
        second = np.where(after < len(ids), rank[np.minimum(after, len(ids) - 1)].astype(np.int64) + 1, 0)
        key = rank[suffixes].astype(np.int64) << 32 | second
        by = np.argsort(key)
        suffixes, key = suffixes[by], key[by]
        order[open_] = suffixes
        begins = np.flatnonzero(_changes(key))
        rank[suffixes] = np.repeat(open_[begins], np.diff(begins, append=len(key)))
        open_ = open_[_unsorted(begins, len(key))]
        taken *= 2
    return order


def _changes(key: Longs) -> NDArray[np.bool_]:
    """(N,) whether an item differs from the one before it."""
    return np.concatenate([[True], key[1:] != key[:-1]])


def _unsorted(begins: Longs, total: int) -> Longs:
    """The places in groups of more than one."""
    sizes = np.diff(begins, append=total)
    return np.flatnonzero(np.repeat(sizes > 1, sizes))
