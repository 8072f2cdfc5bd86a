"""How a training step is run: in which precision, and compiled or captured."""
