"""What comes from outside of the program, and what it finds around it: archives, texts, signals, caches, locks."""
