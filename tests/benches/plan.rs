//! Planning at the size of the design: the leader's tables and the planner,
//! and nodes that do what they are told at once.

use crate::report::{Budget, Report};
use skep_control::model::{
    Assignment, AssignmentId, Attempt, Cluster, Millis, Node, NodeDescription, NodeId,
    ReplicatedService, Revision, Seen, Service, ServiceId, ServiceMode, ServiceSpec, TaskId,
    TaskState, WallTime,
};
use skep_control::plan::{Planner, Reach, Reaches, World};
use skep_control::random::Random;
use skep_control::state::{Change, State};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

const NODES: usize = 5_000;
const SERVICES: usize = 100;
const REPLICAS: u64 = 1_000;

pub(crate) fn measure(report: &mut Report) {
    let before_mb = resident_mb();
    let mut leader = Leader::begin();
    for number in 0..SERVICES {
        leader.create(&format!("s{number}"), REPLICAS);
    }
    let scheduling = timed(|| leader.settle());
    let bound = leader.state.assignments().filter(|of| of.node.is_some());
    assert_eq!(bound.count() as u64, SERVICES as u64 * REPLICAS);
    let what = "100,000 tasks on 5,000 nodes: planned and applied, CPU";
    report.time(what, scheduling, None, Budget::AtMost(2_000.0));

    leader.obey();
    leader.settle();
    let memory = resident_mb() - before_mb;
    report.row(
        "tables, sight and planner of it",
        "MB",
        memory,
        None,
        Budget::AtMost(200.0),
    );

    let idle = timed(|| leader.settle());
    report.time(
        "a pass when nothing happened, CPU",
        idle,
        None,
        Budget::None,
    );
    leader.create("one", 1);
    let one = timed(|| leader.settle());
    report.time("one more task among them, CPU", one, None, Budget::None);
    let own: Vec<Assignment> = leader.state.assignments_on(&node(1)).cloned().collect();
    let news = timed(|| {
        for assignment in &own {
            leader.see(assignment);
        }
        leader.now = leader.now.plus(10_000);
        leader.settle();
    });
    report.time("a node's report, CPU", news, None, Budget::None);
    let lost = timed(|| {
        leader.reaches.note(leader.now, &node(1), Reach::Down);
        leader.settle();
    });
    let first = node(1);
    let left = leader.state.assignments_on(&first);
    assert_eq!(left.filter(|of| of.is_live()).count(), 0);
    report.time(
        "a node lost, its tasks elsewhere, CPU",
        lost,
        None,
        Budget::None,
    );
    leader.planner = Planner::default();
    let whole = timed(|| leader.settle());
    report.time(
        "a pass of a new leader over all, CPU",
        whole,
        None,
        Budget::None,
    );
}

fn node(number: usize) -> NodeId {
    NodeId(format!("{number:0>25}"))
}

/// What a leader knows.
struct Leader {
    state: State,
    seen: BTreeMap<AssignmentId, Seen>,
    reaches: Reaches,
    described: BTreeMap<NodeId, NodeDescription>,
    planner: Planner,
    random: Random,
    now: Millis,
}

impl Leader {
    fn begin() -> Self {
        let mut leader = Self {
            state: State::default(),
            seen: BTreeMap::new(),
            reaches: Reaches::default(),
            described: BTreeMap::new(),
            planner: Planner::default(),
            random: Random::new([1; 32]),
            now: Millis(1),
        };
        let mut changes = vec![Change::PutCluster(Box::<Cluster>::default())];
        for number in 1..=NODES {
            let mut row = Node {
                id: node(number),
                ..Node::default()
            };
            row.description.hostname = format!("board{number}");
            row.description.resources.nano_cpus = 4_000_000_000;
            leader
                .described
                .insert(row.id.clone(), row.description.clone());
            leader.reaches.note(leader.now, &row.id, Reach::Up);
            changes.push(Change::PutNode(Box::new(row)));
        }
        leader.apply(changes);
        leader
    }

    fn apply(&mut self, changes: Vec<Change>) {
        for change in &changes {
            self.planner.note(&self.state, change);
        }
        let index = self.state.version() + 1;
        self.state.apply(index, WallTime(1), changes);
    }

    fn create(&mut self, name: &str, replicas: u64) {
        let mut spec = ServiceSpec {
            name: name.into(),
            mode: ServiceMode {
                replicated: Some(ReplicatedService {
                    replicas: Some(replicas),
                }),
                ..ServiceMode::default()
            },
            ..ServiceSpec::default()
        };
        spec.task_template.container_spec.image = "app".into();
        let revision = Revision {
            service: ServiceId::from(name),
            number: 1,
            service_name: name.into(),
            task: spec.task_template.clone(),
            ..Revision::default()
        };
        let service = Service {
            id: revision.service.clone(),
            spec,
            revision: 1,
            ..Service::default()
        };
        self.apply(vec![
            Change::PutRevision(Box::new(revision)),
            Change::PutService(Box::new(service)),
        ]);
    }

    /// Plans and applies until there is nothing to plan; the planner's own
    /// rests take no processor time.
    fn settle(&mut self) {
        loop {
            let leader = node(1);
            let world = World {
                state: &self.state,
                seen: &self.seen,
                reaches: &self.reaches,
                described: &self.described,
                leader: &leader,
                now: self.now,
                wall: WallTime(1),
            };
            let plan = self.planner.plan(world, &mut self.random);
            let soon = self.now.plus(10_000);
            match plan.wake_at.filter(|at| *at <= soon) {
                _ if !plan.changes.is_empty() => self.apply(plan.changes),
                Some(at) => self.now = at,
                None => return,
            }
        }
    }

    /// Every node runs what it was told, and says so.
    fn obey(&mut self) {
        let all: Vec<Assignment> = self.state.assignments().cloned().collect();
        for assignment in &all {
            self.see(assignment);
        }
    }

    fn see(&mut self, assignment: &Assignment) {
        let mut attempt = Attempt {
            task: TaskId::of(&assignment.id, 1),
            number: 1,
            running_since: Some(self.now),
            ..Attempt::default()
        };
        attempt.status.state = TaskState::Running;
        attempt.status.message = "started".into();
        let seen = Seen {
            attempts: vec![attempt],
            ..Seen::default()
        };
        self.planner.saw(&self.state, &assignment.id);
        self.seen.insert(assignment.id.clone(), seen);
    }
}

/// Processor time, which others on the machine do not lengthen.
fn timed(what: impl FnOnce()) -> Duration {
    let before = busy();
    what();
    busy().saturating_sub(before)
}

/// What this thread has used of a processor.
fn busy() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

fn resident_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kb.unwrap_or(0.0) / 1e3
}
