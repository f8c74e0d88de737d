"""What each Python process begins with that finds the helpers on PYTHONPATH, as those that tests start do."""

import torchvision_ops  # noqa: F401
