//! The engine's steps: done in order for each task, side by side for
//! different ones, and answered by observations.

use super::Executor;
use super::container::Container;
use super::create::Order;
use super::start::By;
use super::stop::Stopping;
use crate::backend::RemoveOptions;
use crate::error::Kind;
use crate::oci::task::{self, Identity};
use skep_control::model::{
    ContainerCreate, ContainerId, EndpointSpec, PortConfig, ServiceSpec, TaskId,
};
use skep_control::worker::{Observation, Step, TaskRun};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError};

/// Steps that wait, by what they are about; a task is there while somebody
/// works through its steps. The engine has at most a handful for one task.
#[derive(Default)]
pub(super) struct Queues(BTreeMap<String, VecDeque<Step>>);

impl Executor {
    /// Does a step in the background, after those before it for the same task.
    pub(crate) fn perform(&self, step: Step) {
        let key = match &step {
            Step::Prepare(run) => run.task.0.clone(),
            Step::Start { task } | Step::Stop { task, .. } | Step::Remove { task } => {
                task.0.clone()
            }
            Step::RestartLocal { container } => container.0.clone(),
        };
        let mut queues = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = queues.0.get_mut(&key) {
            waiting.push_back(step);
            return;
        }
        queues.0.insert(key.clone(), VecDeque::new());
        let executor = self.clone();
        smol::spawn(async move { executor.work_through(&key, step).await }).detach();
    }

    async fn work_through(&self, key: &str, mut step: Step) {
        loop {
            if let Some(observation) = self.step(step).await {
                self.observe(observation).await;
            }
            let mut queues = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            match queues.0.get_mut(key).and_then(VecDeque::pop_front) {
                Some(next) => step = next,
                None => {
                    queues.0.remove(key);
                    return;
                }
            }
        }
    }

    async fn step(&self, step: Step) -> Option<Observation> {
        match step {
            Step::Prepare(run) => Some(self.prepare(*run).await),
            Step::Start { task } => self.start_task(task).await,
            Step::Stop { task, grace_ms } => self.stop_task(task, grace_ms).await,
            Step::Remove { task } => Some(self.remove_task(task).await),
            Step::RestartLocal { container } => self.restart_local(container).await,
        }
    }

    fn task(&self, task: &TaskId) -> Option<Arc<Container>> {
        self.table().of_task(task)
    }

    async fn prepare(&self, run: TaskRun) -> Observation {
        let task = run.task.clone();
        if let Some(there) = self.task(&task) {
            return Observation::Prepared {
                task,
                container: there.id.clone(),
            };
        }
        match self.make(order(run)).await {
            Ok(container) => Observation::Prepared {
                task,
                container: container.id.clone(),
            },
            Err(error) => Observation::Rejected {
                task,
                message: error.message,
            },
        }
    }

    async fn start_task(&self, task: TaskId) -> Option<Observation> {
        let Some(container) = self.task(&task) else {
            return Some(not_there(task));
        };
        let _serial = container.serial.lock().await;
        match self.start_locked(&container, By::Engine).await {
            // Told by the start itself.
            Ok(()) => None,
            Err(error) if error.kind == Kind::NotModified => Some(self.running(&container)),
            Err(error) => {
                let code = container.life().state.exit_code;
                Some(Observation::Exited {
                    task,
                    code,
                    oom: false,
                    message: error.message,
                })
            }
        }
    }

    async fn stop_task(&self, task: TaskId, grace_ms: u64) -> Option<Observation> {
        let Some(container) = self.task(&task) else {
            return Some(not_there(task));
        };
        let _serial = container.serial.lock().await;
        if !container.life().state.is_running() {
            return self.exited(&container, false);
        }
        let stopping = Stopping {
            signal: "",
            grace_ms: Some(i64::try_from(grace_ms).unwrap_or(i64::MAX)),
        };
        match self.stop_locked(&container, stopping).await {
            Ok(()) => {
                self.tell(&container, "stop", &[]);
                // Told by the exit itself.
                None
            }
            Err(error) => {
                log::error!("task {task}: {error}");
                None
            }
        }
    }

    async fn remove_task(&self, task: TaskId) -> Observation {
        if let Some(container) = self.task(&task) {
            let options = RemoveOptions {
                force: true,
                volumes: true,
            };
            if let Err(error) = self.remove(container.id.as_str(), options).await
                && error.kind != Kind::NotFound
            {
                log::error!("task {task}: {error}");
            }
        }
        Observation::Removed { task }
    }

    async fn restart_local(&self, id: ContainerId) -> Option<Observation> {
        let container = match self.find(id.as_str()) {
            Ok(container) => container,
            Err(_) => return Some(Observation::LocalForgotten { container: id }),
        };
        let _serial = container.serial.lock().await;
        match self.start_locked(&container, By::Policy).await {
            Ok(()) => None,
            Err(error) if error.kind == Kind::NotModified => Some(self.running(&container)),
            Err(error) => {
                log::warn!("container {}: restart: {error}", container.id);
                self.exited(&container, false)
            }
        }
    }
}

fn not_there(task: TaskId) -> Observation {
    Observation::Exited {
        task,
        code: 0,
        oom: false,
        message: "the container is gone".into(),
    }
}

/// A task's run as a creation.
fn order(run: TaskRun) -> Order {
    let host_ports: Vec<PortConfig> = run
        .ports
        .iter()
        .filter(|port| port.publish_mode == "host")
        .cloned()
        .collect();
    let spec = ServiceSpec {
        name: run.service_name.clone(),
        labels: run.service_labels.clone(),
        task_template: run.spec,
        endpoint_spec: Some(EndpointSpec {
            mode: String::new(),
            ports: run.ports,
        }),
        ..ServiceSpec::default()
    };
    let identity = Identity {
        service_id: run.service.as_str(),
        service_name: &run.service_name,
        task_id: run.task.as_str(),
        slot: run.slot,
        node_id: run.node.as_str(),
    };
    let create: ContainerCreate = task::container_create(&spec, identity);
    Order {
        name: run.name,
        create,
        platform: None,
        task: Some(run.task),
        host_ports,
    }
}
