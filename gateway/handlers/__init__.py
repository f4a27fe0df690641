"""HTTP handlers: each reads a request, asks the cluster, and writes the answer in the client's dialect."""
