"""The mistakes a user can make, each with a message that says what to try next."""

from __future__ import annotations


class FedkdError(Exception):
    """A mistake that the user can mend; the command line prints it without a traceback."""


class ScenarioError(FedkdError):
    """The scenario file asks for something that cannot be."""


class DataError(FedkdError):
    """A source, a column, a label or a partition is not as the scenario says."""


class ModelError(FedkdError):
    """A teacher, a student or an encoder cannot be built or loaded."""


class ReleaseError(FedkdError):
    """A release does not keep its contract; the intake rejects it with this reason."""


class PolicyError(FedkdError):
    """A party's own policy forbids what was asked; asking again changes nothing."""


class BudgetError(PolicyError):
    """The party's privacy budget does not allow another release."""


class LedgerError(FedkdError):
    """A ledger was tampered with, or the two sides' ledgers differ."""


class QuorumError(FedkdError):
    """Too few parties gave a usable reply for the round to go on."""


class EngineError(FedkdError):
    """What distributes the work cannot be started or reached, or fell over."""


class DeployError(FedkdError):
    """A machine, a key, a certificate or a process of a deployment is not as it should be."""


class AuditError(FedkdError):
    """An attack on a finished run shows more than an accountant promised."""


def expected(name: str, value: object, relation: str, remedy: str) -> str:
    """Return the house's one-line message: ``Expected name=value to relation. Try remedy.``"""
    return f"Expected {name}={value!r} to {relation}. Try {remedy.rstrip('.')}."
