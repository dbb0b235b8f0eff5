"""Peak training memory predicted from shapes: a training step on fake tensors that tracks every storage.

`ledger.py` is the arithmetic of a list of allocations, `step.py` replays a training step on fake tensors,
`profiled.py` measures the same step with torch's profiler, `workloads.py` names what is predicted.
"""

from replication.memory.ledger import MemoryPrediction
from replication.memory.step import TrainingStep, predict_step
from replication.memory.workloads import Workload, predict

__all__ = ["MemoryPrediction", "TrainingStep", "Workload", "predict", "predict_step"]
