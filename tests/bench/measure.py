"""Measuring ratios on a machine that is busy with other things.

Contestants take turns within one loop, in an order that is shuffled each round. What is reported is the median of
the ratios per round with a bootstrapped 95 % interval, and the ratio of the minima. A second copy of the baseline runs
along as a control; when its own ratio leaves 0.95 to 1.05 the numbers of that run are marked as noisy.
"""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import attrs

Call = Callable[[], object]
_CONTROL = "(control)"


@attrs.frozen(kw_only=True)
class Ratio:
    """How long one contestant took, as a multiple of the baseline.

    :param low: lower and :param high: upper end of the 95 % interval of the median.
    :param minima: ratio of the fastest rounds. :param milliseconds: median time of the contestant.
    """

    name: str
    median: float
    low: float
    high: float
    minima: float
    milliseconds: float


@attrs.frozen(kw_only=True)
class Outcome:
    """The ratios of one comparison; ``control`` is the baseline against itself."""

    title: str
    baseline: str
    baseline_milliseconds: float
    rounds: int
    ratios: tuple[Ratio, ...]
    control: Ratio

    @property
    def noisy(self) -> bool:
        """Whether the baseline differs from itself by more than 5 %."""
        return not 0.95 <= self.control.median <= 1.05


def compare(title: str, contestants: Mapping[str, Call], *, rounds: int, warm_up: int = 2) -> Outcome:
    """Run every contestant in every round; the first is the baseline.

    :param contestants: name to a call that does the work once and raises when the result is wrong.
    """
    baseline = next(iter(contestants))
    calls = {**contestants, _CONTROL: contestants[baseline]}
    names = list(calls)
    for _ in range(warm_up):
        for call in calls.values():
            call()
    times: dict[str, list[float]] = {name: [] for name in names}
    order = random.Random(title)  # noqa: S311 - the order has to be repeatable, not secret
    for _ in range(rounds):
        order.shuffle(names)
        for name in names:
            started = time.perf_counter()
            calls[name]()
            times[name].append(time.perf_counter() - started)
    ratios = {name: _ratio(name, times[name], times[baseline]) for name in calls if name != baseline}
    control = ratios.pop(_CONTROL)
    return Outcome(
        title=title,
        baseline=baseline,
        baseline_milliseconds=statistics.median(times[baseline]) * 1000,
        rounds=rounds,
        ratios=tuple(ratios.values()),
        control=control,
    )


def _ratio(name: str, times: Sequence[float], baseline: Sequence[float]) -> Ratio:
    per_round = [mine / floor for mine, floor in zip(times, baseline, strict=True)]
    low, high = _interval(per_round)
    return Ratio(
        name=name,
        median=statistics.median(per_round),
        low=low,
        high=high,
        minima=min(times) / min(baseline),
        milliseconds=statistics.median(times) * 1000,
    )


def _interval(values: Sequence[float], samples: int = 1000) -> tuple[float, float]:
    draw = random.Random(len(values))  # noqa: S311 - resampling
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(samples))
    return medians[int(samples * 0.025)], medians[int(samples * 0.975)]


def show(outcome: Outcome) -> None:
    """Print one comparison as a table."""
    noise = "  NOISY: compare minima only" if outcome.noisy else ""
    print(f"\n{outcome.title}  ({outcome.rounds} rounds, control {outcome.control.median:.2f}){noise}")
    print(f"  {'':28} {'ratio':>7} {'95 % interval':>16} {'minima':>8} {'median ms':>10}")
    print(f"  {outcome.baseline:28} {1:7.2f} {'':16} {1:8.2f} {outcome.baseline_milliseconds:10.2f}")
    for ratio in outcome.ratios:
        interval = f"{ratio.low:.2f} to {ratio.high:.2f}"
        print(f"  {ratio.name:28} {ratio.median:7.2f} {interval:>16} {ratio.minima:8.2f} {ratio.milliseconds:10.2f}")
