"""
The part of the installation that setup.cfg can not say: the compiled quick path.

Where it can not be built, chatrelay is installed without it and runs in pure Python.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "chatrelay._cutting",
            ["chatrelay/_cutting.pyx"],
            extra_compile_args=["-O3"],
            optional=True,
        )
    ]
)
