"""What pyproject.toml cannot say: all packages of the tree, and configs/ as data of the package.

So a wheel carries the configs that README names, and the files of the evaluation page.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["signstream", "signstream.*"]), "signstream.configs"],
    package_dir={"signstream.configs": "configs"},
    package_data={"signstream.configs": ["*.yaml"], "signstream.inference.report": ["page/*"]},
)
