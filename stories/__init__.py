"""Encoders of questions about stories: `--encoder dmn` and `--encoder memory`."""
