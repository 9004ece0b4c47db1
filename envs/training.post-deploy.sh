# Made by envs/generate.py from pyproject.toml: do not edit.
set -e
if command -v nvcc > /dev/null; then
  pip install setuptools wheel packaging ninja
  pip install --no-build-isolation mamba-ssm==2.3.2.post1 causal-conv1d==1.6.2.post1
else
  echo "No CUDA compiler: without mamba-ssm==2.3.2.post1 causal-conv1d==1.6.2.post1; see docs/cluster.md" >&2
fi
