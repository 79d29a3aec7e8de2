"""Rows of the math exercise: sums, days, months and units. Every instance has a seed of its own.

The exam takes instances that training never shows, in phrasings it does show: what is tested is the rule, not the
wording.
"""

import itertools
import random
from collections.abc import Iterator, Sequence

from train.data.sample.rows import WORDS, build_row


SUM_ROWS, SUM_EXAM_ROWS = 1600, 24
LARGEST_TERM = 99
LARGEST_CALENDAR_STEP = 6
LARGEST_UNIT_COUNT = 20


def build_instance(phrasings: Sequence[str], words: dict, **parts: str) -> list[dict]:
    """A row for each phrasing, with the words put in."""
    return [build_row(exercise="math exercise", query=phrasing.format(**words), **parts) for phrasing in phrasings]


def iterate_sums(rng: random.Random) -> Iterator[list[dict]]:
    """Sums as they are done on paper: digit by digit, with a carry. One phrasing each."""
    pairs = list(itertools.product(range(1, LARGEST_TERM + 1), repeat=2))
    for a, b in rng.sample(pairs, SUM_ROWS + SUM_EXAM_ROWS):
        ones = a % 10 + b % 10
        tens = a // 10 + b // 10 + ones // 10
        yield build_instance(
            [rng.choice(WORDS["sum_phrasings"])],
            {"a": a, "b": b},
            seed_path=f"sum/{a}+{b}",
            seed_text=f"{a} + {b} = {a + b}.",
            reasoning=f"ones {a % 10} + {b % 10} = {ones}, tens {a // 10} + {b // 10} + {ones // 10} = {tens}",
            answer=str(a + b),
        )


def iterate_calendar(kind: str, names: list[str]) -> Iterator[list[dict]]:
    for start, name in enumerate(names):
        for step in range(2, LARGEST_CALENDAR_STEP + 1):
            passed = [names[(start + offset) % len(names)] for offset in range(1, step + 1)]
            counted = ", ".join(f"{number} {passed_name}" for number, passed_name in enumerate(passed, start=1))
            yield build_instance(
                WORDS["after_phrasings"],
                {"kind": kind, "step": step, "start": name},
                seed_path=f"{kind}/{name.lower()}+{step}",
                seed_text=f"{step} {kind}s after {name} is {passed[-1]}.",
                reasoning=f"after {name}: {counted}",
                answer=passed[-1],
            )


def iterate_units() -> Iterator[list[dict]]:
    for large, small, factor in WORDS["units"]:
        for count in range(2, LARGEST_UNIT_COUNT + 1):
            worked = f"{count} x {factor} = {count * factor}"
            yield build_instance(
                WORDS["unit_phrasings"],
                {"small": small, "large": large, "count": count},
                seed_path=f"unit/{large}-{small}/{count}",
                seed_text=f"{count} {large} are {count * factor} {small}.",
                reasoning=f"units: {worked}",
                answer=str(count * factor),
            )


def build_math_rows(rng: random.Random) -> tuple[list[dict], list[dict]]:
    """Train rows (every phrasing of an instance) and exam rows (one phrasing of each instance kept from training)."""
    families = (
        (list(iterate_sums(rng)), SUM_EXAM_ROWS),
        (list(iterate_calendar("day", WORDS["days"])), 6),
        (list(iterate_calendar("month", WORDS["months"])), 10),
        (list(iterate_units()), 20),
    )
    train_rows, exam_rows = [], []
    for instances, exam_count in families:
        validation = set(rng.sample(range(len(instances)), exam_count))
        for number, instance in enumerate(instances):
            if number in validation:
                exam_rows.append(rng.choice(instance))
            else:
                train_rows.extend(instance)
    return train_rows, exam_rows
