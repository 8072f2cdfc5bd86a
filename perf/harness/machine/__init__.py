"""Facts about this machine: its devices, its identity, its load, its memory, and the values of its sensors."""
