"""Detection of predictions that are not finite numbers."""

import numpy as np
import torch


def nonfinite_rows(rows: np.ndarray) -> list[int]:
    """Return the indices of the rows that hold a NaN or an infinity; none where the dtype has neither.

    Args:
        rows: `(n, ...)`, contiguous.
    """
    if names := rows.dtype.names:
        return sorted({row for name in names for row in nonfinite_rows(rows[name].copy())})
    if rows.dtype.kind not in "fc" or not rows.size:
        return []
    values = torch.from_numpy(rows)
    # a sum is quick, and finite where every number is: only where it is not (it may overflow) each number is checked
    total = values.sum(dtype=torch.float32 if values.dtype == torch.float16 else None)
    if torch.isfinite(total):
        return []
    numbers: list[int] = (~torch.isfinite(values)).reshape(len(rows), -1).any(dim=1).nonzero()[:, 0].tolist()
    return numbers
