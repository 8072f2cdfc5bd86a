"""What machine this is: its devices, its identity, its load, its memory, and what its sensors say."""
