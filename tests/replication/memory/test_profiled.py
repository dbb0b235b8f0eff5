from replication.memory.profiled import running_peak


def test_running_peak():
    assert running_peak([3, -1, 4, -6, 5]) == 6
    assert running_peak([]) == running_peak([-3]) == 0
