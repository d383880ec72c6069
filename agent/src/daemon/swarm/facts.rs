//! What there is to say of this node's place, and where others are.

use super::join::Joining;
use super::{Swarm, lock};
use crate::backend::{Leadership, SwarmFacts, SwarmState};
use crate::error::Result;
use skep_control::engine::{Contact, Request, View};
use skep_control::model::Task;

/// What the engine knows of it.
struct Told {
    is_manager: bool,
    managers: Vec<(String, String)>,
}

impl Swarm {
    /// For `info`.
    pub(in super::super) async fn facts(&self) -> SwarmFacts {
        let Some(member) = self.member() else {
            return self.outside();
        };
        let told = self.0.spine.view(told).await;
        let mut managers = told.managers;
        if managers.is_empty() {
            let known = member.managers.iter();
            managers = known
                .map(|manager| (manager.node.0.clone(), manager.addr.to_string()))
                .collect();
        }
        let error = lock(&self.0.trouble).clone().unwrap_or_default();
        SwarmFacts {
            state: match error.is_empty() {
                true => SwarmState::Active,
                false => SwarmState::Error,
            },
            node_id: lock(&self.0.identity).node.0.clone(),
            node_addr: member.addr.ip().to_string(),
            manager: told.is_manager,
            error,
            managers,
        }
    }

    /// In no swarm, or not yet.
    fn outside(&self) -> SwarmFacts {
        match &*lock(&self.0.joining) {
            Joining::No => SwarmFacts::default(),
            Joining::Failed(reason) => SwarmFacts {
                error: reason.clone(),
                ..SwarmFacts::default()
            },
            Joining::Pending { managers, .. } => SwarmFacts {
                state: SwarmState::Pending,
                managers: managers
                    .iter()
                    .map(|addr| (String::new(), addr.clone()))
                    .collect(),
                ..SwarmFacts::default()
            },
        }
    }

    pub(in super::super) async fn leader(&self) -> Leadership {
        if self.member().is_none() {
            return Leadership::NoSwarm;
        }
        let led = self
            .0
            .spine
            .view(|view| (view.is_leader(), view.leader()))
            .await;
        match led {
            (true, _) => Leadership::Here,
            (false, Some(leader)) => Leadership::At(leader),
            (false, None) => Leadership::Unknown,
        }
    }

    pub(in super::super) async fn barrier(&self) -> Result<()> {
        self.0.spine.request(Request::Barrier).await.map(drop)
    }

    /// Which other node has a task or a container.
    pub(in super::super) async fn place_of(&self, what: &str) -> Option<Contact> {
        let what = what.trim_start_matches('/').to_owned();
        self.0
            .spine
            .view(move |view| whereabouts(view, &what))
            .await
    }
}

fn told(view: View<'_>) -> Told {
    let managers = view.managers().into_iter();
    Told {
        is_manager: view.is_manager(),
        managers: managers
            .map(|manager| (manager.node.0, manager.addr.to_string()))
            .collect(),
    }
}

fn whereabouts(view: View<'_>, what: &str) -> Option<Contact> {
    let tasks = view.tasks();
    let task = found(&tasks, what)?;
    let node = task.node.as_ref()?;
    if Some(node) == view.node_id() {
        return None;
    }
    view.contact(node)
}

/// By full id, by name, then by a prefix of an id that only one has. Tasks
/// come newest first, so that a short name is its newest attempt's.
fn found<'a>(tasks: &'a [Task], what: &str) -> Option<&'a Task> {
    if what.is_empty() {
        return None;
    }
    let exact =
        |task: &&Task| task.id.as_str() == what || task.name == what || container(task) == what;
    let short = |task: &&Task| {
        task.name
            .rsplit_once('.')
            .is_some_and(|(name, _)| name == what)
    };
    if let Some(task) = tasks
        .iter()
        .find(exact)
        .or_else(|| tasks.iter().find(short))
    {
        return Some(task);
    }
    let mut matching = tasks
        .iter()
        .filter(|task| task.id.as_str().starts_with(what) || container(task).starts_with(what));
    matching.next().filter(|_| matching.next().is_none())
}

fn container(task: &Task) -> &str {
    let of = task.status.container.as_ref();
    of.map_or("", |status| status.container.as_str())
}
