//! Revisions: what the tasks of a service are made from, numbered.

use super::*;

impl State {
    /// The changes that put a service into the tables, with a new revision if
    /// its tasks would be made differently from now on.
    pub(crate) fn revised(&self, mut service: Service) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut next = revision(&service);
        let now = self.revision(&service.id, service.revision);
        if now.is_none_or(|now| **now != next) {
            // Above every revision that a task may still be made from.
            let assigned = self.assignments_of(&service.id);
            let highest = assigned.map(|assignment| assignment.revision).max();
            service.revision = highest.unwrap_or(0).max(service.revision) + 1;
            next.number = service.revision;
            changes.push(Change::PutRevision(Box::new(next)));
        }
        changes.push(Change::PutService(Box::new(service)));
        changes
    }
}

fn revision(service: &Service) -> Revision {
    let spec = &service.spec;
    Revision {
        service: service.id.clone(),
        number: service.revision,
        service_name: spec.name.clone(),
        service_labels: spec.labels.clone(),
        task: spec.task_template.clone(),
        ports: service.ports.clone(),
        is_global: spec.mode.is_global(),
    }
}
