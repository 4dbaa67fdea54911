"""One after the other, or in threads."""

import threading
import time

import pytest

from utils.threads import THREADS, WAITING, each


def who(_: int) -> str:
    return threading.current_thread().name


def slowly(number: int) -> tuple[int, str]:
    time.sleep(0.06 if number == 5 else 0.002 if number < 40 else 0)
    return number, who(number)


def test_quick_work_stays_in_its_thread() -> None:
    assert set(each(who, range(1000))) == {threading.current_thread().name}
    assert list(each(who, [])) == []


def test_slow_work_goes_on_in_threads_and_keeps_its_order() -> None:
    numbers, names = zip(*each(slowly, range(1000)), strict=True)
    own = threading.current_thread().name
    assert numbers == tuple(range(1000))
    assert set(names[:6]) == {own}
    assert own not in names[6:]
    assert 1 < len(set(names[6:])) <= THREADS


def test_items_are_taken_as_they_are_needed() -> None:
    taken = []

    def items():  # type: ignore[no-untyped-def]
        for number in range(100_000):
            taken.append(number)
            yield number

    found = each(slowly, items())
    for _ in range(10):
        next(found)
    assert len(taken) <= 10 + WAITING * THREADS
    found.close()


def test_what_is_raised_in_a_thread_is_raised() -> None:
    def work(number: int) -> int:
        time.sleep(0.06)
        return 1 // (3 - number)

    with pytest.raises(ZeroDivisionError):
        list(each(work, range(5)))
