"""A stand-in for nvidia-ml-py: one GPU whose readings a test sets, and which may lack any of them."""

import os
import types

UUID = "5a1ae6d4-5c86-4c5f-8e5a-9d1d9c1e0001"
OTHER_PID = 4_194_305  # above the kernel's highest


class NVMLError(Exception):
    pass


class NVMLError_Timeout(NVMLError):
    pass


class Nvml(types.ModuleType):
    """As pynvml; what is in `lacks` is not supported. `reasons` is a mask, or a list of masks, one for each reading."""

    NVMLError = NVMLError

    def __init__(self, *lacks):
        super().__init__("pynvml")
        self.lacks = lacks
        self.reasons = 0
        self.mig = 0
        self.pids = [os.getpid()]
        self.errors, self.corrected = 7, 40
        self.opened = 0
        self.xids = []

    def nvmlInit(self):
        if "driver" in self.lacks:
            raise NVMLError("Driver Not Loaded")
        self.opened += 1

    def nvmlDeviceGetHandleByUUID(self, wanted):
        if wanted != f"GPU-{UUID}":
            raise NVMLError("Not Found")
        return "handle"

    def _answer(self, handle, name, value):
        assert handle == "handle"
        if name in self.lacks or "everything" in self.lacks:
            raise NVMLError("Not Supported")
        return value

    def nvmlDeviceGetClockInfo(self, handle, kind):
        return self._answer(handle, "clocks", {1: 1755, 2: 2619}[kind])  # MHz

    def nvmlDeviceGetMaxClockInfo(self, handle, kind):
        assert kind == 1
        return self._answer(handle, "clocks", 1980)

    def nvmlDeviceGetName(self, handle):
        return self._answer(handle, "identity", b"NVIDIA H200")  # older versions return bytes

    def nvmlDeviceGetUUID(self, handle):
        return self._answer(handle, "identity", f"GPU-{UUID}")

    def nvmlDeviceGetSerial(self, handle):
        return self._answer(handle, "serial", "1653023000042")

    def nvmlDeviceGetVbiosVersion(self, handle):
        return self._answer(handle, "identity", "96.00.A5.00.01")

    def nvmlDeviceGetInforomImageVersion(self, handle):
        return self._answer(handle, "identity", "G520.0200.00.05")

    def nvmlDeviceGetPciInfo(self, handle):
        return self._answer(handle, "identity", types.SimpleNamespace(busId="00000000:1B:00.0"))

    def nvmlDeviceGetPowerUsage(self, handle):
        return self._answer(handle, "power", 412_000)  # mW

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):
        return self._answer(handle, "limits", 650_000)

    def nvmlDeviceGetPowerManagementDefaultLimit(self, handle):
        return self._answer(handle, "limits", 700_000)

    def nvmlDeviceGetTemperature(self, handle, sensor):
        assert sensor == 0
        return self._answer(handle, "temperature", 61)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return self._answer(handle, "energy", 5_000)  # mJ

    def nvmlDeviceGetCurrPcieLinkGeneration(self, handle):
        return self._answer(handle, "link", 4)

    def nvmlDeviceGetMaxPcieLinkGeneration(self, handle):
        return self._answer(handle, "link", 5)

    def nvmlDeviceGetCurrPcieLinkWidth(self, handle):
        return self._answer(handle, "link", 8)

    def nvmlDeviceGetMaxPcieLinkWidth(self, handle):
        return self._answer(handle, "link", 16)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):
        found = self.reasons
        return self._answer(handle, "reasons", found.pop(0) if isinstance(found, list) else found)

    def nvmlDeviceGetEccMode(self, handle):
        return self._answer(handle, "ecc", [1, 0])

    def nvmlDeviceGetDefaultEccMode(self, handle):
        return self._answer(handle, "ecc_default", 1)

    def nvmlDeviceGetMigMode(self, handle):
        return self._answer(handle, "mig", [self.mig, 0])

    def nvmlDeviceGetTotalEccErrors(self, handle, kind, counter):
        assert counter == 0  # since the driver was loaded
        return self._answer(handle, "ecc_errors", {0: self.corrected, 1: self.errors}[kind])

    def nvmlDeviceGetRemappedRows(self, handle):
        return self._answer(handle, "rows", (3, 1, 0, True))

    def nvmlDeviceGetPcieReplayCounter(self, handle):
        return self._answer(handle, "replays", 12)

    def nvmlEventSetCreate(self):
        return "events"

    def nvmlDeviceRegisterEvents(self, handle, kinds, events):
        assert (kinds, events) == (8, "events")
        self._answer(handle, "events", None)

    def nvmlEventSetWait_v2(self, events, milliseconds):
        assert (events, milliseconds) == ("events", 0)
        if not self.xids:
            raise NVMLError_Timeout("Timeout")
        return types.SimpleNamespace(eventData=self.xids.pop(0))

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return self._answer(handle, "processes", [types.SimpleNamespace(pid=pid) for pid in self.pids])
