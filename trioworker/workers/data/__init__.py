"""Workers that look after what a program has stored. One module each."""
