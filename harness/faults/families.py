"""All fault families by name."""

from __future__ import annotations

from harness.faults.client_link import ClientLink
from harness.faults.disk_full import DiskFull
from harness.faults.disk_hung import DiskHung
from harness.faults.disk_slow import DiskSlow
from harness.faults.family import Family
from harness.faults.kill import Kill
from harness.faults.partition import Partition
from harness.faults.pause import Pause
from harness.params import FaultFamily

FAMILIES: dict[FaultFamily, Family] = {
    family.name: family for family in (Kill(), Pause(), Partition(), ClientLink(), DiskFull(), DiskSlow(), DiskHung())
}
