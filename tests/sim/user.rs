//! What users do, and what they were promised.

use crate::chance::Chance;
use skep_control::engine::View;
use skep_control::model::*;
use skep_control::request::Request;
use std::collections::BTreeMap;

/// What is known of one service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promise {
    /// Acknowledged: `None` is "removed".
    pub(crate) kept: Option<ServiceSpec>,
    /// Asked for and not answered: it may have come true.
    pub(crate) maybe: Vec<Option<ServiceSpec>>,
}

#[derive(Debug, Default)]
pub(crate) struct Users {
    pub(crate) promises: BTreeMap<String, Promise>,
    next: u64,
    /// Somebody asked to leave the cluster, and has no answer.
    is_leaving: bool,
}

pub(crate) fn spec(name: &str, replicas: u64, image: &str, chance: &mut Chance) -> ServiceSpec {
    let mut spec = ServiceSpec {
        name: name.to_owned(),
        ..ServiceSpec::default()
    };
    let task = &mut spec.task_template;
    task.container_spec.image = image.to_owned();
    task.restart_policy = Some(RestartPolicy {
        condition: Some(RestartCondition::Any),
        delay: Some((chance.below(20) * 100) as i64 * 1_000_000),
        max_attempts: None,
        window: None,
    });
    spec.mode.replicated = Some(ReplicatedService {
        replicas: Some(replicas),
    });
    spec.update_config = Some(UpdateConfig {
        parallelism: chance.below(3),
        delay: (chance.below(10) * 100) as i64 * 1_000_000,
        monitor: (1 + chance.below(2000)) as i64 * 1_000_000,
        failure_action: ["continue", "pause"][chance.below(2) as usize].into(),
        max_failure_ratio: 0,
        order: if chance.percent(30) {
            "start-first".into()
        } else {
            "stop-first".into()
        },
    });
    spec
}

impl Users {
    /// Something that a user does now.
    pub(crate) fn act(
        &mut self,
        view: &View<'_>,
        chance: &mut Chance,
    ) -> Option<(String, Option<ServiceSpec>, Request)> {
        let image = ["ok", "ok", "flaky", "bad"][chance.below(4) as usize];
        let known: Vec<&Service> = view.state().services().collect();
        if known.is_empty() || (known.len() < 4 && chance.percent(30)) {
            self.next += 1;
            let name = format!("s{}", self.next);
            let spec = spec(&name, chance.below(4), image, chance);
            let request = Request::ServiceCreate(Box::new(spec.clone()));
            return Some((name, Some(spec), request));
        }
        let service = known[chance.below(known.len() as u64) as usize];
        let name = service.spec.name.clone();
        if chance.percent(10) {
            let service = name.clone();
            return Some((name, None, Request::ServiceRemove { service }));
        }
        let mut spec = service.spec.clone();
        if chance.percent(50) {
            spec.mode.replicated = Some(ReplicatedService {
                replicas: Some(chance.below(5)),
            });
        } else {
            spec.task_template.container_spec.image = image.to_owned();
        }
        let request = Request::ServiceUpdate {
            service: service.id.0.clone(),
            version: service.meta.version.index,
            spec: Box::new(spec.clone()),
            rollback: false,
        };
        Some((name, Some(spec), request))
    }

    pub(crate) fn asked(&mut self, name: &str, wanted: Option<ServiceSpec>) {
        let promise = self.promises.entry(name.to_owned()).or_default();
        promise.maybe.push(wanted);
    }

    pub(crate) fn answered(&mut self, name: &str, wanted: Option<ServiceSpec>, is_done: bool) {
        let promise = self.promises.entry(name.to_owned()).or_default();
        if let Some(at) = promise.maybe.iter().position(|of| *of == wanted) {
            promise.maybe.remove(at);
        }
        if is_done {
            promise.kept = wanted;
            // Earlier ones that were never answered are overtaken.
            promise.maybe.clear();
        }
    }

    pub(crate) fn asked_to_leave(&mut self) {
        self.is_leaving = true;
    }

    /// The cluster is gone, and every promise with it.
    pub(crate) fn left(&mut self) {
        self.is_leaving = false;
        self.promises.clear();
    }

    /// Whether the cluster may be gone after a crash.
    pub(crate) fn may_have_left(&mut self) -> bool {
        std::mem::take(&mut self.is_leaving)
    }

    /// The tables are read back: what was acknowledged is there, unless
    /// something that was asked for later came true.
    pub(crate) fn hold(&mut self, view: &View<'_>) {
        for (name, promise) in &mut self.promises {
            let found = view.state().service_named(name);
            let spec = found.map(|service| service.spec.clone());
            let is_kept = spec == promise.kept || promise.maybe.contains(&spec);
            assert!(is_kept, "{name}: {promise:?} was promised, and is {spec:?}");
            promise.kept = spec;
            promise.maybe.clear();
        }
    }
}
