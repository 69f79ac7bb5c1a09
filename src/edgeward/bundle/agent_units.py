"""The agent's own units: resident, or started by a timer."""

_WALLS = """\
# It puts bundles below /var/lib/edgeward and restarts services; it runs no model itself.
ProtectSystem=strict
ReadWritePaths=/var/lib/edgeward
ProtectHome=yes
PrivateTmp=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
NoNewPrivileges=yes
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
MemoryHigh=256M
Environment=ORT_DISABLE_TELEMETRY=1 PYTHONDONTWRITEBYTECODE=1
"""


def resident(python: str) -> str:
    """A service that looks at intervals; systemd starts it anew where it hangs."""
    return f"""\
# Written by `edgeward-agent unit`. It goes to /etc/systemd/system/edgeward-agent.service.
[Unit]
Description=edgeward agent
After=network.target
ConditionPathExists=/etc/edgeward/agent.toml

[Service]
Type=notify
ExecStart={python} -m edgeward.agent.main run
# A self-test and a trial may take as long as agent.toml allows them.
WatchdogSec=3600
Restart=always
RestartSec=10
{_WALLS}
[Install]
WantedBy=multi-user.target
"""


def timed(python: str) -> str:
    """A service and its timer, one after the other."""
    return f"""\
# Written by `edgeward-agent unit --timer`: two files for /etc/systemd/system.
# edgeward-agent.service
[Unit]
Description=edgeward agent looks once
After=network.target

[Service]
Type=oneshot
ExecStart={python} -m edgeward.agent.main once
{_WALLS}
# edgeward-agent.timer
[Unit]
Description=edgeward agent looks at intervals

[Timer]
OnBootSec=2min
OnUnitInactiveSec=1h
RandomizedDelaySec=10min

[Install]
WantedBy=timers.target
"""


def sharing(python: str) -> str:
    """A service that answers the neighbours: a user of its own that can read the bundles, and write nothing."""
    return f"""\
# Written by `edgeward-agent unit --share`. It goes to /etc/systemd/system/edgeward-share.service.
[Unit]
Description=edgeward shares bundles with the neighbours
After=network.target

[Service]
ExecStart={python} -m edgeward.agent.main share --host 0.0.0.0
Restart=always
RestartSec=10
DynamicUser=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectProc=invisible
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_INET AF_INET6
SystemCallArchitectures=native
SystemCallFilter=@system-service
MemoryMax=128M
TasksMax=32
Environment=PYTHONDONTWRITEBYTECODE=1

[Install]
WantedBy=multi-user.target
"""
