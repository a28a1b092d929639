"""The Littlest JupyterHub, for one machine: copy to /opt/tljh/config/jupyterhub_config.d/cxgrad.py, then
``sudo tljh-config reload``. Install the package first, for all users:

    sudo -E /opt/tljh/user/bin/pip install --extra-index-url https://download.pytorch.org/whl/cpu torch torchvision
    sudo -E /opt/tljh/user/bin/pip install "cxgrad-lite[lab] @ git+https://github.com/cxgrad-lite/cxgrad_lite"
"""

c = get_config()  # noqa: F821  (JupyterHub calls this file with it)

# Notebooks stay below 1.5 GB (README.md beside this file); a kernel that takes more ends, and its neighbours go on.
c.SystemdSpawner.mem_limit = "2G"
c.SystemdSpawner.cpu_limit = 1.0
# Threads follow the machine's cores, not a student's share of them: sixteen threads on a share of two cores take ten
# times as long as one.
c.Spawner.environment = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
c.Spawner.default_url = "/lab"
# A kernel that nobody has used for an hour gives its memory back.
c.Spawner.args = ["--MappingKernelManager.cull_idle_timeout=3600", "--MappingKernelManager.cull_interval=300"]
