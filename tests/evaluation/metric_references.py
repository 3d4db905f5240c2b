"""Slow, literal versions of the metrics, written from their definitions."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def gld_average_precision(predictions: Sequence[object], wanted: Collection[object], k: int = 100) -> float:
    seen: set[object] = set()
    correct = 0
    total = 0.0
    for rank, prediction in enumerate(predictions[:k], start=1):
        if prediction in seen:
            continue
        seen.add(prediction)
        if prediction in wanted:
            correct += 1
            total += correct / rank
    return total / min(len(set(wanted)), k)


def found(predictions: Sequence[object], wanted: Collection[object], k: int) -> int:
    return len(set(predictions[:k]) & set(wanted))


def first_position(predictions: Sequence[object], wanted: Collection[object], k: int = 100) -> int:
    return next((rank for rank, item in enumerate(predictions[:k], start=1) if item in wanted), k + 1)


def revisited_average_precision(
    predictions: Sequence[int], wanted: Collection[int], junk: Collection[int]
) -> float:
    """Trapezoids under the precision-recall curve, walked result by result."""
    total, correct, place = 0.0, 0, 0
    for prediction in predictions:
        if prediction in junk:
            continue
        if prediction in wanted:
            before = correct / place if place else 1.0
            correct += 1
            total += (before + correct / (place + 1)) / 2 * (1 / len(set(wanted)))
        place += 1
    return total


def revisited_precision(
    predictions: Sequence[int], wanted: Collection[int], junk: Collection[int], k: int
) -> float:
    kept = [prediction for prediction in predictions if prediction not in junk]
    last = max((place for place, item in enumerate(kept, start=1) if item in wanted), default=0)
    depth = min(last, k)
    return sum(item in wanted for item in kept[:depth]) / depth if depth else 0.0
