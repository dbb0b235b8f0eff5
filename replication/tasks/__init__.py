"""The task forms: their rows, training examples and predictions; see `base.TaskForm`."""

from __future__ import annotations

from replication.errors import ConfigError
from replication.tasks.base import Options, TaskForm
from replication.tasks.classification import Classification, Regression
from replication.tasks.multiple_choice import MultipleChoice
from replication.tasks.question_answering import QuestionAnswering
from replication.tasks.summarisation import Summarisation
from replication.tasks.text_generation import TextGeneration

__all__ = ["FORMS", "Options", "TaskForm", "get_form"]

FORMS: dict[str, TaskForm] = {
    form.name: form
    for form in (
        Classification(),
        Regression(),
        QuestionAnswering(),
        MultipleChoice(),
        Summarisation(),
        TextGeneration(),
    )
}
"""Form by name; a form keeps no state."""


def get_form(name: str) -> TaskForm:
    """The form called `name`; ConfigError lists the valid names."""
    if name not in FORMS:
        raise ConfigError(f"task form {name!r} is unknown; known are: {', '.join(sorted(FORMS))}")
    return FORMS[name]
