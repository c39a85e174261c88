"""What a task is configured with, and what a widget is told: data, and how it is checked.

Every mixin is a base of an engine's own configuration, and is checked when the engine calls its
`_validate_…` method: ValueError names the field, and never shows a value that may be secret.
"""
