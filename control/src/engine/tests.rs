//! Stories of one node: requests in, effects out, everything durable at once
//! unless a story says otherwise.

mod many;
mod net;

use super::*;
use crate::journal::SEGMENT_BYTES;

/// An engine whose disk is quick and whose clock is turned by hand.
struct Node {
    engine: Engine,
    now: Millis,
    consensus: Vec<u8>,
    log: Vec<u8>,
    steps: Vec<Step>,
    events: Vec<String>,
    routes: Routes,
    answers: Vec<(Ticket, Result<Answer, Refusal>)>,
    wake_at: Option<Millis>,
    tickets: u64,
    sends: Vec<Send>,
    datagrams: Vec<Datagram>,
    trust: Option<Trust>,
}

fn config(seed: u8) -> Config {
    Config {
        seed: [seed; 32],
        listen_addr: "192.0.2.1:2377".into(),
        member: None,
        log_key: LogKey::new([7; 32]),
    }
}

fn about() -> NodeDescription {
    NodeDescription {
        hostname: "pi".into(),
        ..NodeDescription::default()
    }
}

impl Node {
    fn new() -> Self {
        Self::start(1, Recovered::default(), Millis(1000))
    }

    fn swarm() -> Self {
        let mut node = Self::new();
        node.ask(Request::SwarmInit(Box::default())).unwrap();
        node
    }

    fn start(seed: u8, recovered: Recovered, now: Millis) -> Self {
        Self::start_as(config(seed), recovered, now)
    }

    fn start_as(config: Config, recovered: Recovered, now: Millis) -> Self {
        let (consensus, log) = (recovered.consensus.clone(), recovered.node.clone());
        let engine = Engine::new(now, WallTime(1), config, recovered).unwrap();
        let mut node = Self {
            engine,
            now,
            consensus,
            log,
            steps: Vec::new(),
            events: Vec::new(),
            routes: Routes::default(),
            answers: Vec::new(),
            wake_at: None,
            tickets: 0,
            sends: Vec::new(),
            datagrams: Vec::new(),
            trust: None,
        };
        node.input(Input::Describe(about()));
        node
    }

    /// The agent dies and starts again; the executor found this.
    fn restart(self, found: Vec<Observation>) -> Self {
        let recovered = Recovered {
            consensus: self.consensus,
            node: self.log,
            found,
        };
        Self::start(2, recovered, self.now)
    }

    fn input(&mut self, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let effects = self.engine.step(self.now, WallTime(1), input);
            if let Some(routes) = effects.routes {
                self.routes = routes;
            }
            self.steps.extend(effects.steps);
            self.answers.extend(effects.answers);
            let named = effects.events.iter().map(|event| {
                let name = event.attributes.get("name");
                let name = name.map_or("", String::as_str);
                format!("{} {} {name}", event.kind, event.action)
            });
            self.events.extend(named);
            self.wake_at = effects.wake_at;
            self.sends.extend(effects.sends);
            self.datagrams.extend(effects.datagrams);
            if effects.trust.is_some() {
                self.trust = effects.trust;
            }
            if !effects.writes.is_empty() {
                next = Some(Input::Stored(effects.stored));
            }
            for write in effects.writes {
                self.put(write);
            }
        }
    }

    fn put(&mut self, write: Write) {
        let (Write::At { log, .. } | Write::Replace { log, .. }) = &write;
        let file = match log {
            Log::Consensus => &mut self.consensus,
            Log::Node => &mut self.log,
        };
        match write {
            Write::Replace { bytes, .. } => *file = bytes,
            Write::At { offset, bytes, .. } => {
                let (start, end) = (offset as usize, offset as usize + bytes.len());
                if file.len() < end {
                    file.resize(end.next_multiple_of(SEGMENT_BYTES as usize), 0);
                }
                file[start..end].copy_from_slice(&bytes);
            }
        }
    }

    fn ask(&mut self, request: Request) -> Result<Answer, Refusal> {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.input(Input::Request { ticket, request });
        let (answered, answer) = self.answers.pop().expect("an answer");
        assert_eq!(answered, ticket);
        answer
    }

    fn create(&mut self, name: &str, change: impl FnOnce(&mut ServiceSpec)) -> ServiceId {
        match self.try_create(name, change).unwrap() {
            Answer::Service { id, .. } => id,
            other => panic!("{other:?}"),
        }
    }

    fn try_create(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut ServiceSpec),
    ) -> Result<Answer, Refusal> {
        let mut spec = ServiceSpec {
            name: name.into(),
            ..ServiceSpec::default()
        };
        spec.task_template.container_spec.image = "web:1".into();
        change(&mut spec);
        self.ask(Request::ServiceCreate(Box::new(spec)))
    }

    fn update(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut ServiceSpec),
    ) -> Result<Answer, Refusal> {
        let service = self.engine.view().state().find_service(name).unwrap();
        let (version, mut spec) = (service.meta.version.index, service.spec.clone());
        change(&mut spec);
        self.ask(Request::ServiceUpdate {
            service: name.into(),
            version,
            spec: Box::new(spec),
            rollback: false,
        })
    }

    fn service(&self, name: &str) -> Service {
        let view = self.engine.view();
        view.state().find_service(name).unwrap().clone()
    }

    /// The tasks of the only service, newest first.
    fn tasks(&self) -> Vec<Task> {
        self.engine.view().tasks()
    }
    fn states(&self) -> Vec<TaskState> {
        self.tasks().iter().map(|task| task.status.state).collect()
    }
    fn newest(&self) -> TaskId {
        self.tasks()[0].id.clone()
    }

    fn see(&mut self, observation: Observation) {
        self.input(Input::Observed(observation));
    }
    fn run(&mut self, task: &TaskId) {
        self.see(prepared(task));
        self.see(started(task));
    }
    fn exit(&mut self, task: &TaskId, code: i64) {
        self.see(exited(task, code));
    }
    fn wake(&mut self) {
        self.now = self.wake_at.expect("it waits for a time");
        self.input(Input::Wake);
    }
    fn take_steps(&mut self) -> Vec<String> {
        let steps = std::mem::take(&mut self.steps);
        steps
            .iter()
            .map(|step| match step {
                Step::Prepare(_) => "prepare",
                Step::Start { .. } => "start",
                Step::Stop { .. } => "stop",
                Step::Remove { .. } => "remove",
                Step::RestartLocal { .. } => "restart",
            })
            .map(str::to_owned)
            .collect()
    }
}

fn prepared(task: &TaskId) -> Observation {
    Observation::Prepared {
        task: task.clone(),
        container: ContainerId(format!("c{task}")),
    }
}
fn started(task: &TaskId) -> Observation {
    Observation::Started {
        task: task.clone(),
        container: ContainerId(format!("c{task}")),
        pid: 42,
        since: WallTime(77),
        addresses: Vec::new(),
        ports: Vec::new(),
        health: Health::None,
    }
}
fn exited(task: &TaskId, code: i64) -> Observation {
    Observation::Exited {
        task: task.clone(),
        code,
        oom: false,
        message: String::new(),
    }
}

fn refused(outcome: Result<Answer, Refusal>) -> (u16, String) {
    let refusal = outcome.unwrap_err();
    (refusal.kind.status(), refusal.message)
}

#[test]
fn without_a_swarm_everything_is_refused_as_docker_does() {
    let mut node = Node::new();
    let (status, message) = refused(node.try_create("web", |_| {}));
    assert_eq!(status, 503);
    assert!(message.starts_with("This node is not a swarm manager."));
    let leave = node.ask(Request::SwarmLeave { force: true });
    let wanted = (503, "This node is not part of a swarm".to_owned());
    assert_eq!(refused(leave), wanted);
    assert!(node.consensus.is_empty() && node.log.is_empty());
}

#[test]
fn init_makes_a_cluster_with_dockers_defaults() {
    let node = Node::swarm();
    let view = node.engine.view();
    let cluster = view.cluster().unwrap();
    let spec = &cluster.spec;
    assert_eq!(spec.orchestration.task_history_retention_limit, Some(5));
    assert_eq!(spec.raft.snapshot_interval, 10_000);
    assert_eq!(spec.dispatcher.heartbeat_period, 5 * SECOND);
    assert_eq!(spec.ca_config.node_cert_expiry, 2160 * 3600 * SECOND);
    assert_eq!(cluster.data_path_port, 4789);
    let token: Vec<usize> = cluster.worker_token.split('-').map(str::len).collect();
    assert_eq!(token, [6, 1, 50, 25]);
    let nodes: Vec<_> = view.state().nodes().collect();
    assert_eq!(nodes[0].description.hostname, "pi");
    assert_eq!(nodes[0].addr, "192.0.2.1:2377");
    assert_eq!(nodes[0].spec.role, NodeRole::Manager);
    assert!(view.state().network_named("ingress").is_some());
}

#[test]
fn an_answer_waits_for_the_disk() {
    let mut engine = Engine::new(Millis(0), WallTime(1), config(1), Recovered::default()).unwrap();
    let request = Request::SwarmInit(Box::default());
    let ticket = Ticket(1);
    let mut effects = engine.step(Millis(0), WallTime(1), Input::Request { ticket, request });
    let mut stores = 0;
    while effects.answers.is_empty() {
        assert!(!effects.writes.is_empty(), "it waits for nothing");
        let again = engine.step(Millis(0), WallTime(1), Input::Wake);
        assert!(again.answers.is_empty() && again.writes.is_empty());
        let stored = Input::Stored(effects.stored);
        effects = engine.step(Millis(0), WallTime(1), stored);
        stores += 1;
    }
    assert_eq!(stores, 2, "once to begin the log, once for the cluster");
}

#[test]
fn the_last_manager_leaves_only_by_force_and_takes_everything_along() {
    let mut node = Node::swarm();
    node.create("web", |_| {});
    let task = node.newest();
    node.run(&task);
    node.take_steps();
    let (status, message) = refused(node.ask(Request::SwarmLeave { force: false }));
    assert_eq!(status, 503);
    assert!(message.starts_with("You are attempting to leave the swarm on a node that is participating as a manager. Removing the last manager erases all current state of the swarm."));
    assert_eq!(
        node.ask(Request::SwarmLeave { force: true }),
        Ok(Answer::Done)
    );
    assert_eq!(node.take_steps(), ["stop"]);
    assert!(node.routes.services.is_empty());
    assert!(node.consensus.is_empty());
    node.exit(&task, 0);
    assert_eq!(node.take_steps(), ["remove"]);
    node.see(Observation::Removed { task });
    assert!(node.engine.view().cluster().is_none());
    assert!(node.restart(Vec::new()).engine.view().node_id().is_none());
}

#[test]
fn service_requests_are_refused_in_dockers_words() {
    let mut node = Node::swarm();
    let publish = |mode: &str| {
        let port = PortConfig {
            target_port: 80,
            published_port: 8000,
            publish_mode: mode.into(),
            ..PortConfig::default()
        };
        Some(EndpointSpec {
            ports: vec![port],
            ..EndpointSpec::default()
        })
    };
    let id = node.create("x", |spec| spec.endpoint_spec = publish("ingress"));
    let taken = format!("port '8000' is already in use by service 'x' ({id}) as an ingress port");
    let outcome = node.try_create("y", |spec| spec.endpoint_spec = publish("ingress"));
    assert_eq!(refused(outcome), (400, taken));
    let taken = "name conflicts with an existing object: service x already exists";
    let outcome = node.try_create("x", |_| {});
    assert_eq!(refused(outcome), (409, taken.into()));
    let outcome = node.try_create("", |spec| spec.task_template.container_spec.image.clear());
    let wanted = "ContainerSpec: image reference must be provided";
    assert_eq!(refused(outcome), (400, wanted.into()));
    let outcome = node.try_create("z", |spec| {
        spec.task_template.networks = vec![NetworkAttachmentConfig {
            target: "nowhere".into(),
            ..NetworkAttachmentConfig::default()
        }];
    });
    assert_eq!(refused(outcome), (404, "network nowhere not found".into()));

    let outcome = node.update("x", |spec| spec.name = "other".into());
    let wanted = "renaming services is not supported";
    assert_eq!(refused(outcome), (501, wanted.into()));
    let outcome = node.update("x", |spec| {
        spec.mode = ServiceMode {
            global: Some(Empty {}),
            ..ServiceMode::default()
        };
    });
    let wanted = "service mode change is not allowed";
    assert_eq!(refused(outcome), (501, wanted.into()));
    let outcome = node.ask(Request::ServiceUpdate {
        service: "x".into(),
        version: 1,
        spec: Box::default(),
        rollback: false,
    });
    assert_eq!(refused(outcome), (500, "update out of sequence".into()));
    let service = "nothing".to_owned();
    let outcome = node.ask(Request::ServiceRemove { service });
    assert_eq!(refused(outcome), (404, "service nothing not found".into()));
}

#[test]
fn an_open_port_is_chosen_once_and_kept() {
    let mut node = Node::swarm();
    node.create("web", |spec| {
        let port = PortConfig {
            target_port: 80,
            ..PortConfig::default()
        };
        spec.endpoint_spec = Some(EndpointSpec {
            ports: vec![
                port.clone(),
                PortConfig {
                    target_port: 81,
                    ..port
                },
            ],
            ..EndpointSpec::default()
        });
    });
    let ports = |node: &Node| -> Vec<u32> {
        let service = node.service("web");
        service
            .ports
            .iter()
            .map(|port| port.published_port)
            .collect()
    };
    assert_eq!(ports(&node), [30000, 30001]);
    node.update("web", |spec| {
        let endpoint = spec.endpoint_spec.as_mut().unwrap();
        endpoint.ports.remove(0);
    })
    .unwrap();
    assert_eq!(ports(&node), [30001]);
}

#[test]
fn a_network_in_use_names_its_users() {
    let mut node = Node::swarm();
    let spec = NetworkSpec {
        name: "back".into(),
        ..NetworkSpec::default()
    };
    let create = Request::NetworkCreate(Box::new(spec));
    let Ok(Answer::Network(id)) = node.ask(create.clone()) else {
        panic!("no network");
    };
    let taken = "network with name back already exists";
    assert_eq!(refused(node.ask(create)), (409, taken.into()));
    node.create("web", |spec| {
        spec.task_template.networks = vec![NetworkAttachmentConfig {
            target: "back".into(),
            ..NetworkAttachmentConfig::default()
        }];
    });
    let network = "back".to_owned();
    let outcome = node.ask(Request::NetworkRemove { network });
    let wanted = format!("network {id} is in use by service web");
    assert_eq!(refused(outcome), (400, wanted));
    let attached = &node.service("web").spec.task_template.networks[0];
    assert_eq!(attached.target, id.0, "names become ids");
    let config = &node
        .engine
        .view()
        .state()
        .network(&id)
        .unwrap()
        .spec
        .ipam
        .config[0];
    assert_eq!(config.subnet, "10.0.1.0/24", "ingress has the first one");
    assert_eq!(config.gateway, "10.0.1.1");
}

#[test]
fn tokens_rotate_one_by_one() {
    let mut node = Node::swarm();
    let cluster = node.engine.view().cluster().unwrap().clone();
    node.ask(Request::SwarmUpdate {
        version: cluster.meta.version.index,
        spec: Box::new(cluster.spec.clone()),
        rotate_worker_token: true,
        rotate_manager_token: false,
        rotate_manager_unlock_key: false,
    })
    .unwrap();
    let after = node.engine.view().cluster().unwrap().clone();
    assert_ne!(after.worker_token, cluster.worker_token);
    assert_eq!(after.worker_token[..59], cluster.worker_token[..59]);
    assert_eq!(after.manager_token, cluster.manager_token);
}

#[test]
fn the_last_manager_is_neither_demoted_nor_removed() {
    let mut node = Node::swarm();
    let this = node.engine.view().state().nodes().next().unwrap().clone();
    let mut spec = this.spec.clone();
    spec.role = NodeRole::Worker;
    let outcome = node.ask(Request::NodeUpdate {
        node: "self".into(),
        version: this.meta.version.index,
        spec: Box::new(spec),
    });
    let wanted = "attempting to demote the last manager of the swarm";
    assert_eq!(refused(outcome), (400, wanted.into()));
    let outcome = node.ask(Request::NodeRemove {
        node: "pi".into(),
        force: true,
    });
    let wanted = format!(
        "node {} is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal",
        this.id
    );
    assert_eq!(refused(outcome), (400, wanted));
}

#[test]
fn a_task_goes_from_prepare_to_running_and_becomes_a_backend() {
    let mut node = Node::swarm();
    node.create("web", |_| {});
    let task = node.newest();
    assert_eq!(node.take_steps(), ["prepare"]);
    assert_eq!(node.states(), [TaskState::Preparing]);
    node.see(prepared(&task));
    assert_eq!(node.take_steps(), ["start"]);
    assert!(node.routes.services[0].backends.is_empty());
    node.see(started(&task));
    assert_eq!(node.states(), [TaskState::Running]);
    assert_eq!(node.routes.services[0].backends[0].task, task);
    let shown = &node.tasks()[0];
    assert_eq!(shown.name, format!("web.1.{task}"));
    assert_eq!(shown.status.message, "started");
    let container = shown.status.container.as_ref().unwrap();
    assert_eq!((container.pid, container.exit_code), (42, 0));
    assert_eq!(node.wake_at, None, "nothing more is due");
}

#[test]
fn a_dead_task_is_followed_by_another_attempt_after_the_delay() {
    let mut node = Node::swarm();
    node.create("web", |_| {});
    let first = node.newest();
    node.run(&first);
    node.take_steps();
    node.exit(&first, 137);
    assert!(node.routes.services[0].backends.is_empty());
    assert_eq!(node.take_steps(), ["prepare"], "prepared during the delay");
    let second = node.newest();
    assert_ne!(first, second);
    node.see(prepared(&second));
    assert_eq!(node.take_steps(), [""; 0]);
    let died = node.now;
    node.wake();
    assert_eq!(node.now.since(died), 5000, "Docker's delay");
    assert_eq!(node.take_steps(), ["start"]);
    node.see(started(&second));
    let shown = node.tasks();
    assert_eq!(node.states(), [TaskState::Running, TaskState::Failed]);
    assert_eq!(shown[1].status.err, "task: non-zero exit (137)");
    assert_eq!(shown[1].desired, TaskState::Shutdown);
    assert_eq!(shown[0].desired, TaskState::Running);
}

#[test]
fn a_missing_image_is_said_and_not_spun_on() {
    let mut node = Node::swarm();
    node.create("web", |spec| {
        spec.task_template.restart_policy = Some(RestartPolicy {
            delay: Some(0),
            ..RestartPolicy::default()
        });
    });
    let mut pauses = Vec::new();
    for _ in 0..4 {
        let task = node.newest();
        let message = "No such image: web:1".into();
        node.see(Observation::Rejected { task, message });
        assert_eq!(node.tasks()[0].status.state, TaskState::Rejected);
        assert_eq!(node.tasks()[0].status.err, "No such image: web:1");
        let before = node.now;
        node.wake();
        pauses.push(node.now.since(before));
    }
    assert_eq!(pauses, [100, 200, 400, 800]);
}

#[test]
fn the_policy_ends_the_attempts() {
    let mut node = Node::swarm();
    node.create("web", |spec| {
        spec.task_template.restart_policy = Some(RestartPolicy {
            delay: Some(0),
            max_attempts: Some(2),
            ..RestartPolicy::default()
        });
    });
    for _ in 0..3 {
        let task = node.newest();
        node.run(&task);
        node.exit(&task, 1);
    }
    assert_eq!(node.states(), [TaskState::Failed; 3]);
    assert_eq!(node.wake_at, None);
    let counts = |node: &Node| node.engine.view().counts(&node.service("web"));
    assert_eq!((counts(&node).running, counts(&node).desired), (0, 1));
    node.update("web", |spec| spec.task_template.force_update += 1)
        .unwrap();
    let task = node.newest();
    node.run(&task);
    assert_eq!(counts(&node).running, 1, "a new revision counts anew");
}

#[test]
fn history_is_kept_within_the_limit() {
    let mut node = Node::swarm();
    node.create("web", |spec| {
        spec.task_template.restart_policy = Some(RestartPolicy {
            delay: Some(0),
            ..RestartPolicy::default()
        });
    });
    for _ in 0..12 {
        let task = node.newest();
        node.run(&task);
        node.exit(&task, 1);
        for step in std::mem::take(&mut node.steps) {
            if let Step::Remove { task } = step {
                node.see(Observation::Removed { task });
            }
        }
    }
    assert_eq!(
        node.tasks().len(),
        5,
        "Docker's five, the live one included"
    );
}

#[test]
fn health_decides_when_a_task_runs_and_when_it_is_over() {
    let mut node = Node::swarm();
    node.create("web", |_| {});
    let task = node.newest();
    node.see(prepared(&task));
    let Observation::Started {
        task,
        container,
        pid,
        since,
        addresses,
        ports,
        ..
    } = started(&task)
    else {
        unreachable!()
    };
    node.see(Observation::Started {
        task: task.clone(),
        container,
        pid,
        since,
        addresses,
        ports,
        health: Health::Starting,
    });
    assert_eq!(node.states(), [TaskState::Starting]);
    let health = |health| Observation::Health {
        task: task.clone(),
        health,
        output: String::new(),
    };
    node.see(health(Health::Healthy));
    assert_eq!(node.states(), [TaskState::Running]);
    node.take_steps();
    node.see(health(Health::Unhealthy));
    assert_eq!(node.take_steps(), ["stop"]);
    assert!(node.routes.services[0].backends.is_empty());
    node.exit(&task, 143);
    let wanted = "task: non-zero exit (143): dockerexec: unhealthy container";
    assert_eq!(node.tasks()[1].status.err, wanted);
}

#[test]
fn an_agent_that_comes_back_goes_on_with_what_runs() {
    let mut node = Node::swarm();
    node.create("web", |spec| {
        spec.mode.replicated = Some(ReplicatedService { replicas: Some(3) });
    });
    let tasks: Vec<TaskId> = node.tasks().into_iter().map(|task| task.id).collect();
    for task in &tasks {
        node.run(task);
    }
    let found = vec![started(&tasks[0]), exited(&tasks[1], 3)];
    let mut node = node.restart(found);
    let mut states = node.states();
    states.sort();
    let wanted = [
        // Never prepared, as far as the executor knows: the same attempt.
        TaskState::Preparing,
        // The one after the one that ended.
        TaskState::Preparing,
        TaskState::Running,
        TaskState::Failed,
    ];
    assert_eq!(states, wanted);
    assert_eq!(node.take_steps(), ["prepare", "prepare"]);
    let running = node.tasks().into_iter().find(|task| task.id == tasks[0]);
    let since = running.map(|task| task.status.timestamp);
    assert_eq!(
        since,
        Some(WallTime(77)),
        "since then, not since the restart"
    );
    let failed = node.tasks().into_iter().find(|task| task.id == tasks[1]);
    assert_eq!(failed.unwrap().status.err, "task: non-zero exit (3)");
    let stray = TaskId::from("stranger");
    node.see(started(&stray));
    assert_eq!(node.steps, [Step::Remove { task: stray }]);
}

#[test]
fn what_went_down_with_the_machine_starts_at_once() {
    let mut node = Node::swarm();
    node.create("web", |_| {});
    let task = node.newest();
    node.run(&task);
    let mut node = node.restart(vec![Observation::Lost { task: task.clone() }]);
    let next = node.newest();
    assert_ne!(next, task);
    node.see(prepared(&next));
    assert_eq!(node.take_steps(), ["prepare", "start"], "without a delay");
}

#[test]
fn a_node_without_its_manager_starts_what_it_was_told() {
    let mut node = Node::swarm();
    node.create("web", |_| {});
    let task = node.newest();
    node.run(&task);
    let recovered = Recovered {
        node: node.log.clone(),
        found: vec![exited(&task, 255)],
        ..Recovered::default()
    };
    let mut alone = Node::start(3, recovered, Millis(5));
    assert_eq!(alone.take_steps(), ["prepare"]);
}

#[test]
fn the_log_is_compacted_and_reads_back() {
    let mut node = Node::swarm();
    let cluster = node.engine.view().cluster().unwrap().clone();
    let mut spec = cluster.spec.clone();
    spec.raft.snapshot_interval = 10;
    node.ask(Request::SwarmUpdate {
        version: cluster.meta.version.index,
        spec: Box::new(spec),
        rotate_worker_token: false,
        rotate_manager_token: false,
        rotate_manager_unlock_key: false,
    })
    .unwrap();
    node.create("web", |spec| {
        spec.mode.replicated = Some(ReplicatedService { replicas: Some(0) });
    });
    for round in 0..40 {
        node.update("web", |spec| {
            spec.labels.insert("round".into(), format!("{round}"));
        })
        .unwrap();
    }
    assert!(node.consensus.len() < SEGMENT_BYTES as usize * 2);
    let before = node.service("web");
    let version = node.engine.view().state().version();
    let again = node.restart(Vec::new());
    assert_eq!(again.service("web"), before);
    assert_eq!(again.engine.view().state().version(), version);
}

#[test]
fn a_damaged_log_is_refused_with_its_name() {
    let mut node = Node::swarm();
    node.create("web", |_| {});
    let mut consensus = node.consensus.clone();
    consensus[40] ^= 1;
    let recovered = Recovered {
        consensus,
        ..Recovered::default()
    };
    let refused = Engine::new(Millis(0), WallTime(1), config(1), recovered).err();
    let message = refused
        .map(|corrupt| corrupt.to_string())
        .unwrap_or_default();
    assert!(
        message.starts_with("consensus log is damaged at byte 0"),
        "{message}"
    );
}

#[test]
fn a_log_shows_nothing_and_opens_with_its_key_only() {
    let mut node = Node::swarm();
    node.create("very-secret-name", |_| {});
    let shows = |bytes: &[u8]| bytes.windows(16).any(|of| of == b"very-secret-name");
    assert!(!shows(&node.consensus));
    let mut other = config(1);
    other.log_key = LogKey::new([8; 32]);
    let recovered = Recovered {
        consensus: node.consensus.clone(),
        ..Recovered::default()
    };
    let refused = Engine::new(Millis(0), WallTime(1), other, recovered).err();
    assert!(
        matches!(refused, Some(Unreadable::WrongKey(_))),
        "{refused:?}"
    );
    node.restart(Vec::new()).service("very-secret-name");
}

#[test]
fn events_tell_of_objects() {
    let mut node = Node::swarm();
    node.events.clear();
    node.create("web", |spec| {
        spec.mode.replicated = Some(ReplicatedService { replicas: Some(0) });
    });
    node.update("web", |spec| {
        spec.labels.insert("a".into(), "b".into());
    })
    .unwrap();
    let service = "web".to_owned();
    node.ask(Request::ServiceRemove { service }).unwrap();
    let wanted = [
        "service create web",
        "service update web",
        "service remove web",
    ];
    assert_eq!(node.events, wanted);
    let again = node.restart(Vec::new());
    assert!(again.events.is_empty(), "what is read back is no news");
}

#[test]
fn a_rollback_by_hand_goes_back_once() {
    let mut node = Node::swarm();
    node.create("web", |spec| {
        spec.mode.replicated = Some(ReplicatedService { replicas: Some(0) });
    });
    let rollback = |node: &mut Node| {
        let version = node.service("web").meta.version.index;
        node.ask(Request::ServiceUpdate {
            service: "web".into(),
            version,
            spec: Box::default(),
            rollback: true,
        })
    };
    let id = node.service("web").id;
    let wanted = format!("service {id} does not have a previous spec");
    assert_eq!(refused(rollback(&mut node)), (400, wanted));
    node.update("web", |spec| {
        spec.task_template.container_spec.image = "web:2".into();
    })
    .unwrap();
    rollback(&mut node).unwrap();
    let service = node.service("web");
    assert_eq!(service.spec.task_template.container_spec.image, "web:1");
    let state = service.update_status.map(|status| status.state);
    assert_eq!(state, Some(UpdateState::RollbackCompleted));
}
