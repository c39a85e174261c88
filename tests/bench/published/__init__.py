"""Published systems of several agents beside ours; only when asked for, as it installs them."""
