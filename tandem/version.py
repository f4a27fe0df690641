"""The version of Tandem; nodes tell it to each other when they join."""

__version__ = "0.1.0"
