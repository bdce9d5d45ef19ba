"""
Fuzzing: what must hold of any bytes, and a fuzzer that looks for bytes of which it does not.

Each target is a function that is given bytes and fails if something is wrong.  A fuzzer that is
guided by the code it reaches varies its inputs; those that reached something new are kept beside
the targets, and are tests (`tests.test_fuzzing`)::

    pip install -e '.[fuzz]'
    python -m tests.fuzzing --minutes 30
"""
