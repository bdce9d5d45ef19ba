"""The tests of chatrelay, for ``python -m twisted.trial tests`` and for ``pytest``."""

from hypothesis import settings

# A machine that is busy is not a defect, so no deadline for an example; with the
# blob, a failure that CI finds can be repeated anywhere.
settings.register_profile("chatrelay", deadline=None, print_blob=True)
settings.load_profile("chatrelay")
