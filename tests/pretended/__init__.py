"""An accelerator for machines that have none: `pretended`, a device of torch with its own tensors and its own thread.

Its work is asynchronous: a thread executes it later, and the host sees a value only after it has waited or copied the
value. A tensor of the CPU among the device's tensors is an error. `torch.accelerator` knows the device.

What it cannot show: how fast a GPU is; several devices or streams; pinned memory; autocast, compilation and graphs.
torch (2.15) lets Python define a device's operators, but not its waiting, its events, or its allocator. So
`register` puts this device's functions in the place of the C functions below `torch.accelerator`, and of `torch.Event`.
`torch.accelerator` and the harness are not touched.
"""

import torch as torch  # first: torch itself imports `backend`, by an entry point, when its own import ends
