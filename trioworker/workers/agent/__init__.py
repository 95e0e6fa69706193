"""Workers that look after the program they run in."""
