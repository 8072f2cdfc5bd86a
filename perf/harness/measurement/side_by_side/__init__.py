"""Two versions measured side by side: sides → link → schedule; in the worker process: worker → slices → visit."""
