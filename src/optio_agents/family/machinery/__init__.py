"""What does something about an agent for an engine: its prompt, its terminal, its login.

The machinery is built on the hosts of the deployment as they are, `optio_host`'s or ours: it asks
no more of them than the published methods.
"""
