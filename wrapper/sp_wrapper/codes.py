"""Exit codes that the wrapper itself gives. A leaf without imports: it is loaded before the command starts."""

TIMED_OUT = 124  # the command ran longer than SP_TIMEOUT
KILLED = 143  # a user killed it
REFUSED = 254  # the slot is already claimed on this machine, or another run of the job holds its lock
ERROR = 255  # the wrapper itself failed
