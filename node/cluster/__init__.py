"""The node among others: who it is, where the others are, who is there."""
