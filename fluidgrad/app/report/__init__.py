"""What a run leaves behind: its files, its pictures, its page, and what it says on a terminal."""
