"""Everything that gos_fx refuses, one class for each kind of refusal.

A refusal says what is wrong, where, and what to do about it. Any other exception that
leaves gos_fx is a bug in gos_fx.
"""

from __future__ import annotations


class GosError(Exception):
    """What is wrong, where (module path, file, argument) and what to do.

    ``str(error)`` is ``"what (where). do"``; parts that are empty are left out.
    """

    def __init__(self, what: str, where: str = "", do: str = "") -> None:
        self.what, self.where, self.do = what, where, do
        super().__init__(what, where, do)

    def __str__(self) -> str:
        head = self.what.rstrip(".")
        if self.where:
            head = f"{head} ({self.where})"
        return f"{head}. {self.do}" if self.do else head


class UnknownTarget(GosError):
    """No target has this name."""


class UntraceableModel(GosError):
    """torch.fx cannot trace the model."""


class MissingExampleInputs(GosError):
    """Nothing says what the inputs of the model look like."""


class BadExampleInputs(GosError):
    """The model does not run on the example inputs."""


class TrainingModeError(GosError):
    """The model is in training mode."""


class NonFiniteWeights(GosError):
    """A weight or a buffer of the model is infinite or not a number."""


class EmptyLoader(GosError):
    """A data loader gives no batch."""


class OneShotLoader(GosError):
    """A data loader can be gone through only once."""


class BadMetric(GosError):
    """A metric returned what is not a finite number."""


class UnwritableRunDirectory(GosError):
    """The run directory cannot be made or written to."""


class DamagedRunDirectory(GosError):
    """A run directory lacks a file or holds one that does not fit."""


class InfeasibleConstraints(GosError):
    """Nothing that was found meets the constraints."""


class Unsupported(GosError):
    """This cannot be done: the module, option or size has no implementation."""


class VerifyError(GosError):
    """An instruction graph breaks a rule of its form."""


class ParseError(GosError):
    """A text is not an instruction graph."""


class CompileError(GosError):
    """The compiler or the linker failed."""


class EmulatorUnavailable(GosError):
    """qemu or its runtime libraries are not there."""


class ProgramFailed(GosError):
    """An emulated program failed, is for another machine or took too long."""


class BoardUnavailable(GosError):
    """No board can be reached, or none of them does what it is asked."""


class UnsteadyMeasurement(GosError):
    """Repeated measurements differ by more than is allowed."""


class PackageError(GosError):
    """A package is damaged, or made for another machine or version."""


class TuningRecordsUnusable(GosError):
    """The database of tuned kernels cannot be read or written."""


class BadOption(GosError):
    """An argument has a value outside of what it allows."""


class NotBuiltYet(GosError):
    """This version does not have the feature yet, and says so in a sentence."""
