"""fedkd: one student from many teachers that may not be shared."""

__version__ = "0.1.0"
