"""Work that several processes share: each does its part, all get the whole, and an error of one stops them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object

from data_scripts.progress import progress


@contextmanager
def together() -> Iterator[None]:
    """Context for work at which single processes may fail: an error of one of them stops all, at the same place.

    Without it the others would wait in their next collective call until its time-out. It is a barrier: all processes
    must come here.

    Raises:
        ValueError: another process met bad data (ValueError or OSError); its message is passed on.
        RuntimeError: another process failed in another way.
    """
    failure = None
    try:
        yield
    except Exception as error:
        failure = error
    told = None if failure is None else (isinstance(failure, ValueError | OSError), f"{failure}")
    failures = gather_object([told])
    if failure is not None:
        raise failure
    for number, report in enumerate(failures):
        if report is not None:
            bad_data, message = report
            raise (ValueError if bad_data else RuntimeError)(f"process {number}: {message}")


def share_batches(
    work: Callable[[list[int]], Sequence[Any]], count: int, batch_size: int, description: str
) -> list[Any]:
    """What `work` makes of `count` films, in order; each batch of positions is done by one of the processes.

    Batches are the same for any number of processes, so the whole is the same, too.

    Raises:
        ValueError, RuntimeError: see `together`.
    """
    state = PartialState()
    positions = list(range(count))
    batches = [positions[start : start + batch_size] for start in positions[::batch_size]]
    mine = batches[state.process_index :: state.num_processes]
    with together():
        done = [
            list(work(batch))
            for batch in progress(mine, desc=description, unit=" batches", disable=not state.is_main_process)
        ]
    if state.num_processes == 1:
        return [result for results in done for result in results]
    # As (place, results), since processes are gathered one after the other.
    places = range(state.process_index, len(batches), state.num_processes)
    gathered = gather_object(list(zip(places, done, strict=True)))
    return [result for _, results in sorted(gathered, key=lambda item: item[0]) for result in results]
