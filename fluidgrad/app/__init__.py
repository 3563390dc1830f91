"""Configs, commands and run folders: what makes a case of a file, runs it, and keeps what it found."""
