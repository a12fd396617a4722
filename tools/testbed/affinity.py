"""Which CPU sends.

A veth runs the XDP program of its other end on the CPU that sends, so that a flow's packets would wander between
CPUs as the scheduler moves processes. A NIC does not do that to a flow: a queue is one CPU's. So whoever builds a
testbed stays on one CPU from then on, and so do the clients and servers that it starts.
"""

import os

ALL_CPUS = tuple(sorted(os.sched_getaffinity(0)))


def stay_on_one_cpu() -> None:
    """This process, and what it starts later without saying otherwise."""
    os.sched_setaffinity(0, ALL_CPUS[:1])
