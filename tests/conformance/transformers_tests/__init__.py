"""transformers' own tests as one package: the modules of its source distribution, and stand-ins for what they import
that it leaves out.

The stand-ins are this folder's modules. Where the fetched folder has a module of the same name, that one is taken.
"""

import transformers


# The stand-ins' own location stays in the path, behind the fetched modules.
_REPOSITORY = __path__[0].rpartition("/tests/conformance/")[0]
__path__.insert(0, f"{_REPOSITORY}/.transformers_tests/{transformers.__version__}")
