"""Links: the ordered log between neighbours in the ring, over gRPC or in memory."""
