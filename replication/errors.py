"""Errors a user can act on: each message names the file or field, what is wrong, and the cure."""


class ReplicationError(Exception):
    """Base of every error this project raises on purpose; the command line prints its text and exits with 2."""


class ConfigError(ReplicationError, ValueError):
    """A setting is invalid; raised when the configuration is constructed, before any work."""


class DataError(ReplicationError, ValueError):
    """A data file is missing, corrupt, or holds a row that cannot be used; names the file and the row."""


class AdapterError(ReplicationError, ValueError):
    """A method cannot be attached, merged, saved or loaded as asked."""


class CheckpointError(ReplicationError, ValueError):
    """A checkpoint belongs to another configuration or is damaged."""


class TrainingError(ReplicationError, RuntimeError):
    """Training cannot go on, for example because the loss is not a number; names the step and the batch."""
