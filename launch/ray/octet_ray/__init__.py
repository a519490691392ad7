"""Places the ranks of Octet on a Ray cluster and starts them with Open MPI, without ssh.

Ray reserves and watches: a placement group with one bundle a rank, and on every host that got bundles an actor.
Open MPI starts the ranks and moves their data: its mpirun calls `python -m octet_ray.agent` where it would call
ssh, and the actor of that host runs what ssh would have run. So the daemon of a host lives and dies with the actor.
"""
