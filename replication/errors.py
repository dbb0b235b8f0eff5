"""Errors a user can act on: each message names the file or field, the problem, and how to fix it."""


class ReplicationError(Exception):
    """Base class of this project's errors; the command line prints the message and exits with 2."""


class ConfigError(ReplicationError, ValueError):
    """A setting is invalid; raised when the configuration is constructed, before any work."""


class DataError(ReplicationError, ValueError):
    """A data file is missing, corrupt, or holds a row that cannot be used; names the file and the row."""


class ProgramError(ReplicationError, RuntimeError):
    """An external program (Java) did not start, died or gave no usable answer; holds its output."""


class AdapterError(ReplicationError, ValueError):
    """A method cannot be attached, merged, saved or loaded as requested."""


class CheckpointError(ReplicationError, ValueError):
    """A checkpoint belongs to another configuration or is damaged."""


class TrainingError(ReplicationError, RuntimeError):
    """Training cannot continue, for example because the loss is not a number; names the step and the batch."""


class ReplicationWarning(UserWarning):
    """Something was not done that the settings ask for; the message says how to have it done."""
