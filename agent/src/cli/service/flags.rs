//! The flag tables of `service create` and `service update`.

/// What both take, with the same meaning.
pub(super) const SHARED: &str = "\
# Service
d detach bool Do not wait for the service to settle
q quiet bool Show no progress
. replicas uint Tasks to run
. replicas-max-per-node uint Most tasks on one node (0 for no limit)
. max-concurrent uint Tasks of a job that run at a time
. endpoint-mode string How its name resolves: vip or dnsrr
. with-registry-auth bool Give the nodes this client's registry login
. no-resolve-image bool Do not look up the image's digest
# Container
u user string User, and group after a colon, by name or number
w workdir string Folder to run in
. entrypoint command Program in place of the image's
. hostname string Host name
. init bool Run a small init that reaps processes
. isolation string Isolation technology
. credential-spec string Credential specification (Windows)
. read-only bool Root file system read-only
t tty bool Give a terminal
. stop-grace-period duration Time to stop before it is killed (default 10s)
. stop-signal string Signal that stops it
. cap-add list Give a capability
. cap-drop list Take a capability
. log-driver string Where output goes
. log-opt list Option of it
. oom-score-adj int How readily it is killed for memory (-1000 to 1000)
# Resources
. limit-cpu decimal CPUs at most
. limit-memory bytes Memory at most
. limit-pids int Processes at most (0 for no limit)
. reserve-cpu decimal CPUs a node must have free
. reserve-memory bytes Memory a node must have free
# Restart
. restart-condition string When to replace a task: none, on-failure, any (default)
. restart-delay duration Time before it (default 5s)
. restart-max-attempts uint How often before giving up (0 for no limit)
. restart-window duration Time in which attempts count (0 for ever)
# Update
. update-parallelism uint Tasks at a time (default 1, 0 for all)
. update-delay duration Time between
. update-monitor duration Time to watch a new task (default 5s)
. update-failure-action string pause (default), continue or rollback
. update-max-failure-ratio float Failures to bear
. update-order string stop-first (default) or start-first
. rollback-parallelism uint Tasks at a time when rolling back
. rollback-delay duration Time between
. rollback-monitor duration Time to watch a task
. rollback-failure-action string pause (default) or continue
. rollback-max-failure-ratio float Failures to bear
. rollback-order string stop-first (default) or start-first
# Health
. health-cmd string Command that checks health
. health-interval duration Time between checks
. health-timeout duration Time a check may take
. health-retries int Failures in a row that count
. health-start-period duration Time to start in which failures do not count
. health-start-interval duration Time between checks while starting
. no-healthcheck bool No check, whatever the image says";

pub(super) const CREATE: &str = "\
# Service
. name string Name of the service
. mode string replicated (default), global, replicated-job or global-job
l label label Set a label of the service
. constraint list Nodes that may run it (node.role==worker, node.labels.a!=b)
. placement-pref pref Spread over a label (spread=node.labels.zone)
. network network Network to join (name, or name=…,alias=…)
p publish port Publish a port (8080:80, or published=…,target=…,mode=host)
# Container
. container-label label Set a label of its containers
e env env Set a variable
. env-file list Read variables from a file
. group list Another group
. host host Line of /etc/hosts (name:ip)
. dns address Name server
. dns-option list Option of name resolution
. dns-search list Domain to search
. mount mount Mount (type=…,source=…,target=…)
. secret list Secret to show (name, or source=…,target=…,mode=…)
. config list Config to show (name, or source=…,target=…,mode=…)
. sysctl list Kernel setting (name=value)
. ulimit ulimit Kernel limit (name=soft[:hard])
# Resources
. generic-resource resource Resource a node must have (KIND=N)";

pub(super) const UPDATE: &str = "\
# Service
. image string Image
. args command Command and arguments
. force bool Replace the tasks though nothing changed
. rollback bool Go back to the specification before
. label-add label Add or change a label
. label-rm list Remove a label
. constraint-add list Add a constraint on nodes
. constraint-rm list Remove one
. placement-pref-add pref Add a label to spread over
. placement-pref-rm pref Remove one
. network-add network Join a network
. network-rm list Leave one
. publish-add port Publish a port, or change how
. publish-rm list Stop publishing, by target port
# Container
. container-label-add label Add or change a label of the containers
. container-label-rm list Remove one
. env-add env Add or change a variable
. env-rm list Remove one
. group-add list Add a group
. group-rm list Remove one
. host-add host Add a line of /etc/hosts (name:ip)
. host-rm list Remove one (name:ip, or name)
. dns-add address Add a name server
. dns-rm list Remove one
. dns-option-add list Add an option of name resolution
. dns-option-rm list Remove one
. dns-search-add list Add a domain to search
. dns-search-rm list Remove one
. mount-add mount Add a mount, or change it
. mount-rm list Remove one, by target
. secret-add list Show a secret
. secret-rm list Hide one
. config-add list Show a config
. config-rm list Hide one
. sysctl-add list Add or change a kernel setting
. sysctl-rm list Remove one
. ulimit-add ulimit Add or change a kernel limit
. ulimit-rm list Remove one
# Resources
. generic-resource-add resource Add a resource a node must have (KIND=N)
. generic-resource-rm list Remove one";
