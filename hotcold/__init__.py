"""One release decision moves a model's live traffic and its batch scoring together."""

__version__ = "0.1.0"
