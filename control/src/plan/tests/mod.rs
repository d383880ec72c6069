//! swarmkit's stories, retold: what a world becomes when it is planned, and
//! planned again.

mod autopilot;
mod failover;
mod moves;
mod properties;
mod reach;
mod rollout;
mod schedule;
mod slots;

use super::*;

/// A cluster whose nodes do what they are told when they are asked to.
struct Stage {
    state: State,
    seen: BTreeMap<AssignmentId, Seen>,
    reaches: Reaches,
    /// What was on nodes that went down: it may run on beside its successor
    /// until it is told.
    lost: BTreeSet<AssignmentId>,
    now: Millis,
    random: Random,
    planner: Planner,
    pending: BTreeMap<AssignmentId, String>,
}

impl Stage {
    fn new(nodes: usize) -> Self {
        let mut stage = Self {
            state: State::default(),
            seen: BTreeMap::new(),
            reaches: Reaches::default(),
            lost: BTreeSet::new(),
            now: Millis(1_000_000),
            random: Random::new([7; 32]),
            planner: Planner::default(),
            pending: BTreeMap::new(),
        };
        stage.apply(vec![Change::PutCluster(Box::default())]);
        for number in 1..=nodes {
            stage.join(number);
        }
        stage
    }

    fn join(&mut self, number: usize) {
        let id = NodeId(format!("n{number:04}"));
        let mut node = Node {
            id: id.clone(),
            ..Node::default()
        };
        node.description.hostname = id.0.clone();
        node.description.platform.architecture = "aarch64".into();
        node.description.resources.nano_cpus = 4 * SECOND;
        node.description.resources.memory_bytes = 1 << 30;
        self.reaches.note(self.now, &id, Reach::Up);
        self.apply(vec![Change::PutNode(Box::new(node))]);
    }

    fn reach(&mut self, number: usize, reach: Reach) {
        let id = NodeId(format!("n{number:04}"));
        self.reaches.note(self.now, &id, reach);
        if reach == Reach::Down {
            let own = self.state.assignments_on(&id);
            self.lost.extend(own.map(|of| of.id.clone()));
        }
    }

    fn apply(&mut self, changes: Vec<Change>) {
        let index = self.state.version() + 1;
        for change in &changes {
            self.planner.note(&self.state, change);
        }
        self.state.apply(index, WallTime(1), changes);
    }

    fn node(&mut self, number: usize, change: impl FnOnce(&mut Node)) {
        let id = NodeId(format!("n{number:04}"));
        let mut node = self.state.node(&id).unwrap().clone();
        change(&mut node);
        self.apply(vec![Change::PutNode(Box::new(node))]);
    }

    fn create(&mut self, name: &str, replicas: u64, change: impl FnOnce(&mut ServiceSpec)) {
        let mut spec = ServiceSpec {
            name: name.into(),
            ..ServiceSpec::default()
        };
        spec.task_template.container_spec.image = "one".into();
        spec.mode.replicated = Some(ReplicatedService {
            replicas: Some(replicas),
        });
        change(&mut spec);
        let service = Service {
            id: name.into(),
            spec,
            ..Service::default()
        };
        let changes = self.state.revised(service);
        self.apply(changes);
    }

    fn service(&self, name: &str) -> &Service {
        self.state.service(&name.into()).unwrap()
    }

    fn update(&mut self, name: &str, change: impl FnOnce(&mut ServiceSpec)) {
        let mut service = self.service(name).clone();
        service.previous_spec = Some(service.spec.clone());
        change(&mut service.spec);
        service.update_status = None;
        let changes = self.state.revised(service);
        self.apply(changes);
    }

    /// One pass, applied; and nothing is left to plan.
    fn plan(&mut self) -> (usize, Option<Millis>) {
        let mut counts = Vec::new();
        let mut wake_at = None;
        while counts.last() != Some(&0) {
            // A pass that makes as much as it may is followed by another.
            let full = counts.iter().filter(|count| **count >= NEW_MAX).count();
            assert!(counts.len() < 4 + full, "it does not come to rest");
            let plan = self.pass();
            if let Some(pending) = plan.pending {
                self.pending = pending;
            }
            wake_at = plan.wake_at;
            counts.push(plan.changes.len());
            if !plan.changes.is_empty() {
                self.apply(plan.changes);
            }
        }
        self.assert_nothing_was_left_out();
        (counts.iter().sum(), wake_at)
    }

    fn pass(&mut self) -> Plan {
        let mut planner = std::mem::take(&mut self.planner);
        let mut random = std::mem::replace(&mut self.random, Random::new([0; 32]));
        planner.rests_until = Millis(0);
        let plan = planner.plan(self.world(), &mut random);
        self.planner = planner;
        self.random = random;
        plan
    }

    /// Who knows nothing, and so looks at everything, finds nothing to do.
    fn assert_nothing_was_left_out(&self) {
        let whole = Planner::default().plan(self.world(), &mut Random::new([9; 32]));
        assert_eq!(whole.changes, []);
        assert_eq!(whole.pending.unwrap_or_default(), self.pending);
    }

    fn world(&self) -> World<'_> {
        static LEADER: std::sync::LazyLock<NodeId> = std::sync::LazyLock::new(|| "n0001".into());
        static DESCRIBED: BTreeMap<NodeId, NodeDescription> = BTreeMap::new();
        World {
            state: &self.state,
            seen: &self.seen,
            reaches: &self.reaches,
            described: &DESCRIBED,
            leader: &LEADER,
            now: self.now,
            wall: WallTime(1),
        }
    }

    /// Every node does what it is told.
    fn obey(&mut self) {
        let assignments: Vec<Assignment> = self.state.assignments().cloned().collect();
        for assignment in assignments {
            let Some(node) = &assignment.node else {
                continue;
            };
            if self.reaches.of(node) == Reach::Down {
                continue;
            }
            let state = match assignment.desired {
                TaskState::Running if self.image(&assignment) == "bad" => TaskState::Rejected,
                TaskState::Running => TaskState::Running,
                TaskState::Ready => TaskState::Ready,
                _ => TaskState::Shutdown,
            };
            self.see(&assignment, state);
        }
        let known: BTreeSet<AssignmentId> =
            self.state.assignments().map(|of| of.id.clone()).collect();
        self.seen.retain(|id, _| known.contains(id));
    }

    fn image(&self, assignment: &Assignment) -> String {
        let revision = self
            .state
            .revision(&assignment.service, assignment.revision)
            .unwrap();
        revision.task.container_spec.image.clone()
    }

    fn see(&mut self, assignment: &Assignment, state: TaskState) {
        let now = self.now;
        self.planner.saw(&self.state, &assignment.id);
        let seen = self.seen.entry(assignment.id.clone()).or_default();
        let is_over = seen.state().is_terminal();
        // Its node tries again what failed, and what may yet be.
        let is_again = is_over && state == TaskState::Running && !seen.is_exhausted;
        if seen.attempts.is_empty() || is_again {
            let number = seen.attempts.len() as u32 + 1;
            seen.attempts.push(Attempt {
                task: TaskId::of(&assignment.id, number),
                number,
                ..Attempt::default()
            });
        } else if is_over {
            seen.is_gone |= assignment.desired == TaskState::Remove;
            return;
        }
        let Some(attempt) = seen.attempts.last_mut() else {
            return;
        };
        attempt.status.state = state;
        if state == TaskState::Running {
            attempt.running_since.get_or_insert(now);
        }
        if state.is_terminal() {
            attempt.ended = Some(now);
            seen.is_gone |= assignment.desired == TaskState::Remove;
        }
    }

    /// Plans and obeys until neither changes anything.
    fn settle(&mut self) {
        self.obey();
        for _ in 0..20 {
            let (changes, _) = self.plan();
            self.obey();
            if changes == 0 {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn live(&self, name: &str) -> Vec<&Assignment> {
        let of_service = self.service_id(name);
        let all = self.state.assignments();
        all.filter(|of| of.service == of_service && of.is_live())
            .collect()
    }
    fn service_id(&self, name: &str) -> ServiceId {
        name.into()
    }
    fn slots(&self, name: &str) -> Vec<u64> {
        let mut slots: Vec<u64> = self.live(name).iter().map(|of| of.slot).collect();
        slots.sort_unstable();
        slots
    }
    /// Live tasks of each image.
    fn images(&self, name: &str) -> BTreeMap<String, usize> {
        let mut images = BTreeMap::new();
        for assignment in self.live(name) {
            *images.entry(self.image(assignment)).or_default() += 1;
        }
        images
    }
    /// Live tasks on the node of that number.
    fn on(&self, name: &str, number: usize) -> usize {
        let id = NodeId(format!("n{number:04}"));
        let of_service = self.live(name).into_iter();
        of_service
            .filter(|of| of.node.as_ref() == Some(&id))
            .count()
    }
    fn label(&mut self, number: usize, key: &str, value: &str) {
        self.node(number, |node| {
            node.spec.labels.insert(key.into(), value.into());
        });
    }
    fn drain(&mut self, numbers: &[usize]) {
        for number in numbers {
            self.node(*number, |node| node.spec.availability = Availability::Drain);
        }
    }
    fn running(&self, name: &str) -> usize {
        let of_service = self.service_id(name);
        let all = self.state.assignments();
        all.filter(|of| of.service == of_service)
            .filter_map(|of| self.seen.get(&of.id))
            .filter(|seen| seen.is_running())
            .count()
    }
    fn publish(&mut self, name: &str, ports: Vec<PortConfig>) {
        let mut service = self.service(name).clone();
        service.ports = ports;
        let changes = self.state.revised(service);
        self.apply(changes);
    }
    /// The latest attempt of each live task on a node fails `times` times.
    fn fail(&mut self, name: &str, number: usize, times: u32) {
        let id = NodeId(format!("n{number:04}"));
        let ids: Vec<AssignmentId> = self
            .live(name)
            .into_iter()
            .filter(|of| of.node.as_ref() == Some(&id))
            .map(|of| of.id.clone())
            .collect();
        for id in ids {
            let now = self.now;
            self.planner.saw(&self.state, &id);
            let seen = self.seen.entry(id.clone()).or_default();
            for _ in 0..times {
                let number = seen.attempts.len() as u32 + 1;
                let mut attempt = Attempt {
                    task: TaskId::of(&id, number),
                    number,
                    ended: Some(now),
                    ..Attempt::default()
                };
                attempt.status.state = TaskState::Failed;
                seen.attempts.push(attempt);
            }
        }
    }
    fn per_node(&self, name: &str) -> Vec<usize> {
        let mut counts: BTreeMap<&NodeId, usize> = BTreeMap::new();
        for assignment in self.live(name) {
            if let Some(node) = &assignment.node {
                *counts.entry(node).or_default() += 1;
            }
        }
        counts.into_values().collect()
    }
    fn update_state(&self, name: &str) -> Option<UpdateState> {
        let status = self.service(name).update_status.as_ref();
        status.map(|status| status.state)
    }
    fn why(&self) -> &str {
        self.pending.values().next().map_or("", String::as_str)
    }
}

fn config(change: impl FnOnce(&mut UpdateConfig)) -> Option<UpdateConfig> {
    let mut config = UpdateConfig {
        parallelism: 1,
        ..UpdateConfig::default()
    };
    change(&mut config);
    Some(config)
}

fn place(change: impl FnOnce(&mut Placement)) -> Option<Placement> {
    let mut placement = Placement::default();
    change(&mut placement);
    Some(placement)
}

fn reserve(change: impl FnOnce(&mut Resources)) -> Option<ResourceRequirements> {
    let mut resources = Resources::default();
    change(&mut resources);
    Some(ResourceRequirements {
        reservations: Some(resources),
        ..ResourceRequirements::default()
    })
}

fn spread(labels: &[&str]) -> Option<Placement> {
    let preference = |label: &&str| PlacementPreference {
        spread: Some(SpreadOver {
            spread_descriptor: format!("node.labels.{label}"),
        }),
    };
    place(|of| of.preferences = labels.iter().map(preference).collect())
}

fn counted(kind: &str, value: i64) -> GenericResource {
    GenericResource {
        discrete_resource_spec: Some(DiscreteResource {
            kind: kind.into(),
            value,
        }),
        ..GenericResource::default()
    }
}

fn named(kind: &str, value: &str) -> GenericResource {
    GenericResource {
        named_resource_spec: Some(NamedResource {
            kind: kind.into(),
            value: value.into(),
        }),
        ..GenericResource::default()
    }
}

fn host_port(published_port: u32) -> PortConfig {
    PortConfig {
        target_port: 80,
        published_port,
        publish_mode: "host".into(),
        ..PortConfig::default()
    }
}

fn global(spec: &mut ServiceSpec) {
    spec.mode = ServiceMode {
        global: Some(Empty {}),
        ..ServiceMode::default()
    };
}

fn replicas(count: u64) -> ServiceMode {
    ServiceMode {
        replicated: Some(ReplicatedService {
            replicas: Some(count),
        }),
        ..ServiceMode::default()
    }
}
