"""The gateway's view of the cluster: who serves what, how its head is reached, what could be loaded."""
