"""Tables, figures, the report page and the blocks of README.md: functions of the study and its verdicts."""
