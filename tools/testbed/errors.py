"""The one exception that the testbed's programs turn into a message for the operator."""


class TestbedError(Exception):
    """Something that kept the testbed from doing its work, in words an operator can act on."""
