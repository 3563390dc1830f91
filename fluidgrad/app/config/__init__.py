"""The config: its sections, how a file is read and blamed, and the case and problem that it describes."""
