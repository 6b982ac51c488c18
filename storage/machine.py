"""The memory that is available on this machine or in this container, and what this process has used."""
import resource

# Files that may hold the limit of a container.
LIMITS = ('/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory/memory.limit_in_bytes')


def available_memory():
    """The smaller of free memory and the container's limit, in bytes; `None` where the system reports neither."""
    limits = []
    try:
        with open('/proc/meminfo') as stream:
            limits += [int(line.split()[1]) * 1024 for line in stream if line.startswith('MemAvailable:')]
    except OSError:
        pass
    for path in LIMITS:
        try:
            with open(path) as stream:
                limits.append(int(stream.read()))
        except (OSError, ValueError):  # no such file, or no limit: 'max'
            pass
    return min(limits) if limits else None


def peak_memory():
    """The most memory that this program has used, in bytes."""
    try:
        # Not ru_maxrss, which a program inherits from the one that started it.
        with open('/proc/self/status') as stream:
            return next(int(line.split()[1]) for line in stream if line.startswith('VmHWM:')) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
