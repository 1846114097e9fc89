"""The scheduler's promises, as properties over random histories of arrivals, cancellations and batches."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinyon.engine.scheduler import Batch, Grid, QueueFull, Scheduler

BUDGET, OVERHEAD, MAX_WAIT = 128, 16, 2.0

lengths = st.lists(st.integers(1, 200), min_size=1, max_size=40)
steps = st.lists(st.one_of(lengths, st.just("run"), st.integers(0, 30)), max_size=60)


def scheduler(max_queued: int = 10**9) -> Scheduler[int]:
    return Scheduler(BUDGET, max_queued=max_queued, max_wait=MAX_WAIT, batch_overhead=OVERHEAD)


def drain(queue: Scheduler[int], now: float = 0.0) -> list[Batch[int]]:
    batches = []
    while (batch := queue.next_batch(now)) is not None:
        batches.append(batch)
    return batches


@given(steps)
@settings(max_examples=300, deadline=None)
def test_nothing_is_lost_or_run_twice_or_run_after_it_was_cancelled(history: list[list[int] | str | int]) -> None:
    queue = scheduler()
    given_out: list[tuple[int, int]] = []
    wanted: dict[int, list[int]] = {}
    cancelled: dict[int, set[tuple[int, int]]] = {}  # job -> what of it was out already
    for now, step in enumerate(history):
        if isinstance(step, list):
            queue.add(now, step, float(now))
            wanted[now] = step
        elif step == "run":
            if (batch := queue.next_batch(float(now))) is not None:
                given_out += [(item.job, item.row) for item in batch.items]
        else:
            assert isinstance(step, int)
            queue.cancel(step)
            if step in wanted and step not in cancelled:
                cancelled[step] = {pair for pair in given_out if pair[0] == step}
        out = set(given_out)
        assert queue.queued_tokens == sum(
            tokens
            for job, rows in wanted.items()
            if job not in cancelled
            for row, tokens in enumerate(rows)
            if (job, row) not in out
        )
    for batch in drain(queue):
        given_out += [(item.job, item.row) for item in batch.items]
    assert len(given_out) == len(set(given_out))
    expected = {(job, row) for job, rows in wanted.items() if job not in cancelled for row in range(len(rows))}
    assert set(given_out) == expected.union(*cancelled.values())
    assert queue.queued_tokens == 0


@given(st.lists(lengths, min_size=1, max_size=12))
@settings(max_examples=300, deadline=None)
def test_batches_keep_the_budget_and_bound_their_padding(jobs: list[list[int]]) -> None:
    queue, grid = scheduler(), Grid()
    for job, rows in enumerate(jobs):
        queue.add(job, rows, 0.0)
    for batch in drain(queue):
        assert len(batch.items) == 1 or batch.padded_tokens <= BUDGET
        own = [grid.length(item.tokens) for item in batch.items]
        assert batch.length == max(own)
        # Beyond what the grid itself costs, each step of the grid within a batch may cost what one more batch would.
        steps_within = sum(min(own) <= length <= max(own) for length in grid.lengths) - 1
        assert sum(batch.length - length for length in own) <= OVERHEAD * steps_within
        # The rows are a count of the grid, or all that fit: a backend sees few shapes.
        assert len(batch.items) in grid.rows or len(batch.items) == BUDGET // batch.length


@given(st.lists(st.tuples(lengths, st.floats(0, 3), st.integers(0, 2)), min_size=1, max_size=20))
@settings(max_examples=300, deadline=None)
def test_the_oldest_of_a_lane_is_in_its_next_batch_and_late_bulk_work_has_every_second_one(
    history: list[tuple[list[int], float, int]],
) -> None:
    """So nothing starves: ages do not change, and neither lane can keep the other from running."""
    queue, now = scheduler(), 0.0
    waiting: dict[tuple[int, int], tuple[int, float, bool]] = {}  # -> number, arrival, whether it is bulk
    express_had_turn = False

    def run() -> bool:
        nonlocal express_had_turn
        batch = queue.next_batch(now)
        if batch is None:
            assert not waiting
            return False
        express, bulk = (
            sorted((pair for pair in waiting if waiting[pair][2] is is_bulk), key=waiting.__getitem__)
            for is_bulk in (False, True)
        )
        late = bool(bulk) and now - waiting[bulk[0]][1] > MAX_WAIT
        is_bulk = not express or (late and express_had_turn)
        express_had_turn = not is_bulk
        out = {(item.job, item.row) for item in batch.items}
        assert (bulk if is_bulk else express)[0] in out
        assert {waiting[pair][2] for pair in out} == {is_bulk}
        for pair in out:
            del waiting[pair]
        return True

    number = 0
    for job, (rows, gap, runs) in enumerate(history):
        now += gap
        queue.add(job, rows, now)
        for row in range(len(rows)):
            waiting[job, row] = (number, now, sum(rows) > BUDGET)
            number += 1
        for _ in range(runs):
            run()
    while run():
        pass


def test_a_short_query_overtakes_bulk_work_however_much_of_it_waits() -> None:
    queue = scheduler()
    queue.add(1, [16] * 1000, 0.0)
    queue.add(2, [16] * 1000, 0.0)
    queue.add(3, [16], 0.5)
    batch = queue.next_batch(0.5)
    assert batch is not None
    assert [item.job for item in batch.items] == [3]
    # Late bulk work takes turns with short queries, and they with it.
    jobs = []
    for job in range(4, 10):
        queue.add(job, [16], 100.0)
        batch = queue.next_batch(100.0)
        assert batch is not None
        jobs.append(batch.items[0].job)
    assert jobs == [1, 4, 1, 6, 1, 8]


def test_equal_requests_run_in_the_order_of_their_arrival() -> None:
    queue = scheduler()
    for job in range(20):
        queue.add(job, [64], job / 1000)
    assert [item.job for batch in drain(queue) for item in batch.items] == list(range(20))


def test_a_full_queue_refuses_a_request_whole_and_never_one_that_finds_it_empty() -> None:
    queue = scheduler(max_queued=100)
    queue.add(1, [60, 60], 0.0)  # alone it may be larger than the queue
    with pytest.raises(QueueFull):
        queue.add(2, [1], 0.0)
    assert queue.queued_tokens == 120
    queue.cancel(1)
    queue.add(3, [40, 40], 0.0)
    with pytest.raises(QueueFull):
        queue.add(4, [10, 11], 0.0)
    queue.add(5, [20], 0.0)
    assert sorted((item.job, item.row) for batch in drain(queue) for item in batch.items) == [(3, 0), (3, 1), (5, 0)]


def test_a_sequence_longer_than_the_budget_runs_alone() -> None:
    queue = scheduler()
    queue.add(1, [BUDGET + 50, 8, BUDGET + 50], 0.0)
    assert sorted(len(batch.items) for batch in drain(queue)) == [1, 1, 1]


def test_near_equal_lengths_share_a_batch_only_while_padding_costs_less_than_another_run() -> None:
    queue = scheduler()
    queue.add(1, [32, 28], 0.0)
    assert [batch.length for batch in drain(queue)] == [32]
    queue.add(2, [32] + [28] * 6, 0.0)  # 6 x 4 padded tokens are more than a run's overhead
    assert sorted(batch.length for batch in drain(queue)) == [28, 28, 32]


@given(st.integers(1, 100_000), st.integers(1, 10_000))
def test_the_grid_covers_everything_with_little_padding(tokens: int, rows: int) -> None:
    grid = Grid()
    length = grid.length(tokens)
    assert tokens <= length <= max(8, tokens * 1.25 + 3)
    assert grid.length(length) == length
    assert grid.fitting_rows(rows) <= rows < 2 * grid.fitting_rows(rows) or rows >= grid.rows[-1]
