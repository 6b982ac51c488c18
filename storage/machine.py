"""What this machine, or the container, has left."""

# Where a container's limit may stand.
LIMITS = ('/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory/memory.limit_in_bytes')


def available_memory():
    """Bytes that this machine has left, or this container may have; `None` where the system does not tell."""
    found = []
    try:
        with open('/proc/meminfo') as stream:
            found += [int(line.split()[1]) * 1024 for line in stream if line.startswith('MemAvailable:')]
    except OSError:
        pass
    for path in LIMITS:
        try:
            with open(path) as stream:
                found.append(int(stream.read()))
        except (OSError, ValueError):  # no such file, or no limit: 'max'
            pass
    return min(found) if found else None
