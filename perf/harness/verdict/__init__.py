"""From numbers to verdicts, without torch, pytest or a clock. The only file that is read is `limits.json`."""
