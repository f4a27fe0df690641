"""The HTTP server: OpenAI's API in front of a cluster of nodes. It holds no state but its view of the cluster."""
