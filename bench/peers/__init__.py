"""
Relays that somebody would write in an afternoon, to be measured beside chatrelay.

Each takes a port and speaks the same lines: the first one is a name and is answered with
``!welcome NAME``, then ``%bob%text`` from alice reaches bob as ``%alice%text``.  They check
nothing: no UTF-8, no control characters, no names, no limits.
"""
