"""The config: its sections, how a file is read and what is wrong with it told, and the case and problem that it describes."""
