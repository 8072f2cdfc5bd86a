"""How a training step runs: its precision, and whether it is compiled or captured."""
