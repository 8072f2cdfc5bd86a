"""How a training step is run: in which precision, and compiled or captured; each is checked against the plain way."""
