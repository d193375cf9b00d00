"""What a sequence of releases costs: epsilon at a given delta, by two accountants.

Renyi differential privacy (Mironov 2017) decides and calibrates; privacy loss distributions
(Koskela et al. 2020; Doroshenko et al. 2022) report a tighter figure where they are sound and
cheap. Both come from dp-accounting, with two of its traps walked around: its PLD accountant counts
a repeated randomised response once, and a PLD of thousands of Gaussians takes minutes although
they are exactly one Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from fedkd.errors import FedkdError, expected

if TYPE_CHECKING:
    import dp_accounting as dp

EventName = Literal[
    "gaussian", "laplace", "randomised-response", "sampled-gaussian", "laplace-threshold"
]  # fmt: skip
PLD_WORTH_IT = 40.0
_WIDEST = 1e9
_WHOLE_ORDERS = (*range(2, 65), 80, 96, 128, 256, 512, 1024)


@dataclass(frozen=True)
class Event:
    """A privacy event and how often it happens.

    ``noise`` is the deviation or scale in units of the query's sensitivity (gaussian, laplace,
    sampled-gaussian, laplace-threshold), or the epsilon of one answer (randomised-response).
    ``rate`` is the Poisson sampling rate, ``labels`` the number of labels, ``delta`` the chance
    that a threshold fails; 0 where they mean nothing.
    """

    name: EventName
    noise: float
    count: int = 1
    rate: float = 0.0
    labels: int = 0
    delta: float = 0.0

    def values(self) -> dict[str, Any]:
        """Return the event for JSON, without what means nothing to it."""
        return {key: value for key, value in asdict(self).items() if value}

    @property
    def text(self) -> str:
        """The event in a few words, as the ledger prints it."""
        match self.name:
            case "gaussian":
                what = f"Gaussian, deviation {self.noise:.4g} × sensitivity"
            case "laplace":
                what = f"Laplace, scale {self.noise:.4g} × sensitivity"
            case "randomised-response":
                what = f"randomised response, epsilon {self.noise:.4g} a label"
            case "sampled-gaussian":
                what = f"Gaussian, deviation {self.noise:.4g} × clip, sampled at {self.rate:.3g}"
            case "laplace-threshold":
                what = f"Laplace, scale {self.noise:.4g} × sensitivity, threshold to {self.delta:g}"
        return f"{what}, {self.count} times"


def event_of(values: dict[str, Any]) -> Event:
    """Return the event that :meth:`Event.values` wrote."""
    return Event(**values)


def epsilon_rdp(events: Iterable[Event], delta: float) -> float:
    """Return epsilon at ``delta`` of all events together, by Renyi composition; 0.0 for none."""
    return _over_groups(tuple(events), delta, _rdp)


def epsilon_pld(events: Iterable[Event], delta: float) -> float | None:
    """Return epsilon at ``delta`` by privacy loss distributions, never above the Renyi figure.

    None where that is not worth it: above an epsilon of 40 the grid of losses grows without end.
    """
    events = tuple(events)
    bound = epsilon_rdp(events, delta)
    if bound > PLD_WORTH_IT:
        return None
    return min(bound, _over_groups(events, delta, _pld))


def delta_of(events: Iterable[Event]) -> float:
    """Return the chance that any of the events' own thresholds fails."""
    return math.fsum(event.count * event.delta for event in events)


def calibrate(make: Callable[[float], Event], epsilon: float, delta: float) -> float:
    """Return the least noise for which ``make(noise)`` spends at most ``epsilon`` at ``delta``.

    By Renyi composition and bisection, to one part in ten thousand, on the safe side. A calibration
    by privacy loss distributions would try tiny noise first, whose grids do not fit a memory.
    Raises :class:`FedkdError` where no noise is enough.
    """
    check_budget(epsilon, delta)
    low, high = 1e-3, 1.0
    while epsilon_rdp([make(high)], delta) > epsilon:
        low, high = high, high * 2
        if high > _WIDEST:
            raise FedkdError(
                expected("epsilon", epsilon, f"be reachable at delta={delta:g}", "a larger epsilon")
            )
    while high / low > 1.0001:
        middle = math.sqrt(low * high)
        if epsilon_rdp([make(middle)], delta) > epsilon:
            low = middle
        else:
            high = middle
    return high


def calibrate_response(count: int, labels: int, epsilon: float, delta: float) -> float:
    """Return the largest epsilon of one randomised label so that ``count`` of them spend at most
    ``epsilon`` at ``delta``.
    """  # fmt: skip
    inverse = calibrate(
        lambda noise: Event("randomised-response", 1 / noise, count, labels=labels), epsilon, delta
    )
    return 1 / inverse


def check_budget(epsilon: float, delta: float) -> None:
    """Raise :class:`FedkdError` unless epsilon is above 0 and delta inside (0, 1)."""
    if not epsilon > 0:
        raise FedkdError(expected("epsilon", epsilon, "be above 0", "epsilon = 3"))
    if not 0 < delta < 1:
        raise FedkdError(expected("delta", delta, "lie between 0 and 1", "delta = 1e-5"))


def response_keeps(epsilon: float, labels: int) -> float:
    """Return the probability that k-ary randomised response keeps the label: e^ε/(e^ε + k − 1)."""
    return 1 / (1 + (labels - 1) * math.exp(-epsilon))


def _over_groups(
    events: tuple[Event, ...], delta: float, account: Callable[[tuple[Event, ...], float], float]
) -> float:
    """Add up over neighbouring relations, delta split evenly; usually there is one.

    Lists of words compose by plain addition of epsilons and deltas; the rest shares what they
    leave of delta, and nothing is bounded where they leave none.
    """
    lists = [event for event in events if event.name == "laplace-threshold"]
    if lists:
        rest = tuple(event for event in events if event.name != "laplace-threshold")
        left = delta - delta_of(lists)
        if left < -1e-9 * delta or (rest and left <= 0):
            return math.inf
        alone = sum(event.count / event.noise for event in lists)
        return alone + (_over_groups(rest, left, account) if rest else 0.0)
    counts: dict[Event, int] = {}
    for event in events:
        one = replace(event, count=1)
        counts[one] = counts.get(one, 0) + event.count
    groups: dict[bool, list[Event]] = {}
    for one, count in counts.items():
        whole = replace(one, count=count)
        groups.setdefault(one.name == "randomised-response", []).append(whole)
    share = delta / max(len(groups), 1)
    return sum(account(tuple(_collapsed(group)), share) for group in groups.values())


def _collapsed(events: list[Event]) -> list[Event]:
    """Replace all Gaussians by the one that they are together: 1/σ² = Σ count/σ²."""
    precision = sum(e.count / e.noise**2 for e in events if e.name == "gaussian")
    rest = [e for e in events if e.name != "gaussian"]
    return [*rest, Event("gaussian", precision**-0.5)] if precision else rest


@lru_cache(maxsize=4096)
def _rdp(events: tuple[Event, ...], delta: float) -> float:
    from dp_accounting import rdp  # noqa: PLC0415  # half a second, for private parties alone

    # Of sampled Gaussians only whole orders have a closed form; the others may not converge.
    sampled = any(event.name == "sampled-gaussian" for event in events)
    orders = _WHOLE_ORDERS if sampled else None
    accountant = rdp.RdpAccountant(orders, neighboring_relation=_relation(events[0]))
    for event in events:
        accountant.compose(_dp_event(event), event.count)
    return float(accountant.get_epsilon(delta))


@lru_cache(maxsize=4096)
def _pld(events: tuple[Event, ...], delta: float) -> float:
    if events[0].name == "randomised-response":
        return _response_pld(events, delta)
    from dp_accounting import pld  # noqa: PLC0415

    accountant = pld.PLDAccountant()
    for event in events:
        accountant.compose(_dp_event(event), event.count)
    return float(accountant.get_epsilon(delta))


def _response_pld(events: tuple[Event, ...], delta: float) -> float:
    """Compose the distributions themselves: the accountant counts this event once, as of 0.6.0."""
    from dp_accounting import NeighboringRelation  # noqa: PLC0415
    from dp_accounting.pld import privacy_loss_distribution as losses  # noqa: PLC0415

    total: Any = None
    for event in events:
        single = losses.from_randomized_response(
            _response_noise(event), event.labels,
            neighboring_relation=NeighboringRelation.REPLACE_ONE,
        )  # fmt: skip
        several = single.self_compose(event.count) if event.count > 1 else single
        total = several if total is None else total.compose(several)
    return float(total.get_epsilon_for_delta(delta))


def _relation(event: Event) -> dp.NeighboringRelation:
    import dp_accounting as dp  # noqa: PLC0415

    if event.name == "randomised-response":
        return dp.NeighboringRelation.REPLACE_ONE
    return dp.NeighboringRelation.ADD_OR_REMOVE_ONE


def _dp_event(event: Event) -> dp.DpEvent:
    import dp_accounting as dp  # noqa: PLC0415

    match event.name:
        case "gaussian":
            return dp.GaussianDpEvent(event.noise)
        case "laplace":
            return dp.LaplaceDpEvent(event.noise)
        case "sampled-gaussian":
            return dp.PoissonSampledDpEvent(event.rate, dp.GaussianDpEvent(event.noise))
        case "randomised-response":
            return dp.RandomizedResponseDpEvent(_response_noise(event), event.labels)
        case "laplace-threshold":
            return dp.EpsilonDeltaDpEvent(1 / event.noise, event.delta)


def _response_noise(event: Event) -> float:
    """Return the probability of a uniform label, in which dp-accounting measures the noise."""
    k = event.labels
    return (1 - response_keeps(event.noise, k)) * k / (k - 1)
