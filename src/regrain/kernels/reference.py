"""Plain encoder and decoder of the coded payload (docs/format.md): the native coder's yardstick.

`decode(encode(words, plan=plan)) == words` for every plan that can hold the words, and
`encode(decode(payload), plan=plan_of(payload)) == payload` for every payload an encoder made.
Written to be read, in NumPy and Python alone; it stays for ever, and the native coder must equal
it byte for byte.
"""

from regrain.kernels.fault import PayloadFault
from regrain.kernels.reference_crc import crc32c
from regrain.kernels.reference_decode import decode
from regrain.kernels.reference_encode import encode
from regrain.kernels.reference_head import Family, Kind, Table
from regrain.kernels.reference_plan import BlockPlan, Plan, plan_of
from regrain.kernels.reference_tables import normalize

__all__ = [
    "BlockPlan",
    "Family",
    "Kind",
    "PayloadFault",
    "Plan",
    "Table",
    "crc32c",
    "decode",
    "encode",
    "normalize",
    "plan_of",
]
