"""What of a cluster a rank gets."""


def cpus_of_a_rank(nodes, ranks):
    """The most CPUs that every rank can have on nodes of so many CPUs each: a whole number, below 1 hundredths; 0 where
    there are too few even so."""
    hundredths = [int(100 * cpus) for cpus in nodes]
    for share in *range(max(hundredths) // 100 * 100, 0, -100), *range(99, 0, -1):
        if sum(node // share for node in hundredths) >= ranks:
            return share / 100
    return 0


def threads_of_a_rank(cpus, hosts):
    """As many as the CPUs that it reserves, but no more than its share of the cores, of which a CPU may be only one thread.
    `hosts`: (cores, ranks) of each."""
    return max(1, min(int(cpus), *(cores // ranks for cores, ranks in hosts)))
