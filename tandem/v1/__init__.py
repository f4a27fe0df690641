"""Code generated from ``proto/tandem/v1``; ``make proto`` makes it anew."""
