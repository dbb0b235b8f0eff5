"""Accuracy on MNLI's mismatched development split, whose texts come from other genres than the training rows."""

from replication.metrics.accuracy_matched import SubsetAccuracy

METRIC = SubsetAccuracy("mismatched")
