//! How a service settles: what `create`, `update`, `scale` and `rollback`
//! show until every task runs and has run for the monitor period.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::super::Invocation;
use super::super::exit::{Exit, Outcome};
use super::super::filters::Filters;
use super::super::format::short_id;
use super::super::http::Query;
use super::super::json::Value;
use super::super::signals::Signals;
use super::path;
use super::screen::Screen;

/// How often the service is looked at.
const POLL: Duration = Duration::from_millis(200);
/// How long tasks are watched when the service does not say.
const MONITOR: Duration = Duration::from_secs(5);
/// More tasks than this get no line of their own.
const BARS_MAX: i64 = 20;
/// A task's way in steps, for the length of its bar.
const STEPS: i64 = 9;
const JOB_STEPS: i64 = 10;
/// Width of the longest state, `preparing`, that a bar stands beside.
const STATE_WIDTH: usize = 9;
/// An error is cut to this many characters.
const ERROR_WIDTH: usize = 75;

/// States in the order a task goes through them; terminal ones after running.
fn step(state: &str) -> i64 {
    const STATES: [&str; 14] = [
        "new",
        "allocated",
        "pending",
        "assigned",
        "accepted",
        "preparing",
        "ready",
        "starting",
        "running",
        "complete",
        "shutdown",
        "failed",
        "rejected",
        "remove",
    ];
    STATES
        .iter()
        .position(|s| *s == state)
        .and_then(|n| i64::try_from(n).ok())
        .map_or(0, |n| n + 1)
}

fn is_terminal(state: &str) -> bool {
    step(state) > step("running")
}

/// What one kind of service has to reach.
enum Goal {
    Replicated { slots: BTreeMap<i64, i64> },
    Global,
    Job { total: i64, concurrent: i64 },
    GlobalJob { nodes: Vec<String> },
}

struct Progress {
    screen: Screen,
    goal: Goal,
    begun: bool,
    done: bool,
}

/// Ctrl-c while a service settles: it leaves the service to go on by itself.
/// Pressed again it ends the client at once.
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// To be taken before the first request, while there is one thread; when
    /// nothing will be waited for, ctrl-c keeps its effect.
    pub(super) fn take(detach: bool) -> Outcome<Self> {
        let pressed = Arc::new(AtomicBool::new(false));
        if detach {
            return Ok(Self(pressed));
        }
        let mut signals = Signals::take(&[libc::SIGINT])?;
        let flag = Arc::clone(&pressed);
        std::thread::spawn(move || {
            while signals.next().is_ok() {
                if flag.swap(true, Ordering::SeqCst) {
                    std::process::exit(128 + libc::SIGINT);
                }
            }
        });
        Ok(Self(pressed))
    }

    fn pressed(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// What the update's state says of how to go on.
enum Course {
    On,
    Finished,
}

/// What is remembered between looks at a service.
#[derive(Default)]
struct Watch {
    /// Since when every task has run.
    settled_at: Option<Instant>,
    settled: bool,
    rollback: bool,
    /// What to say of a rollback at the end.
    message: Option<String>,
}

impl Watch {
    fn follow(&mut self, status: &Value, screen: &mut Screen) -> Outcome<Course> {
        let text = status.text("Message");
        match status.text("State") {
            "updating" => self.rollback = false,
            "completed" if !self.settled => return Ok(Course::Finished),
            "paused" => return Err(Exit::failure(format!("service update paused: {text}"))),
            "rollback_started" => {
                if !self.rollback && !text.is_empty() {
                    screen.show("rollback", text)?;
                }
                self.rollback = true;
            }
            "rollback_paused" => {
                return Err(Exit::failure(format!("service rollback paused: {text}")));
            }
            "rollback_completed" => {
                if !self.settled {
                    self.message = Some(text.to_owned());
                }
                self.rollback = true;
            }
            _ => {}
        }
        Ok(Course::On)
    }

    /// Says how long the tasks have yet to run, or that one ran no longer.
    fn verify(&mut self, monitor: Duration, screen: &mut Screen) -> Outcome {
        if self.settled {
            let since = *self.settled_at.get_or_insert_with(Instant::now);
            let left = monitor.saturating_sub(since.elapsed()).as_secs() + 1;
            let text = format!("Waiting {left} seconds to verify that tasks are stable...");
            return screen.show("verify", &text);
        }
        match self.settled_at.take() {
            Some(_) => screen.show("verify", "Detected task failure"),
            None => Ok(()),
        }
    }
}

/// Waits until a service has settled, showing how it goes.
pub(super) fn wait(inv: &Invocation, name: &str, quiet: bool, interrupt: &Interrupt) -> Outcome {
    let mut progress: Option<Progress> = None;
    let mut watch = Watch::default();
    loop {
        let service = inv.client.get(&path(name, ""))?;
        let monitor = match service.int("Spec.UpdateConfig.Monitor") {
            0 => MONITOR,
            n => Duration::from_nanos(u64::try_from(n).unwrap_or(0)),
        };
        let progress = match &mut progress {
            Some(progress) => progress,
            none => none.insert(Progress::new(&service, quiet)?),
        };
        let status = service.at("UpdateStatus");
        if matches!(
            watch.follow(status, &mut progress.screen)?,
            Course::Finished
        ) {
            return Ok(());
        }
        if watch.settled && watch.settled_at.is_some_and(|at| at.elapsed() >= monitor) {
            progress
                .screen
                .show("verify", &format!("Service {name} converged"))?;
            return match &watch.message {
                Some(message) => progress.screen.show("rollback", message),
                None => Ok(()),
            };
        }
        watch.settled = progress.look(inv, &service, watch.rollback)?;
        if watch.settled && !service.at("JobStatus").is_null() {
            return progress.screen.show("", "job complete");
        }
        watch.verify(monitor, &mut progress.screen)?;
        std::thread::sleep(POLL);
        if interrupt.pressed() {
            if !watch.settled {
                progress
                    .screen
                    .show("", "Operation continuing in background.")?;
                let hint = format!("Use `{} service ps {name}` to check progress.", inv.program);
                progress.screen.show("", &hint)?;
            }
            return Ok(());
        }
    }
}

impl Progress {
    fn new(service: &Value, quiet: bool) -> Outcome<Self> {
        let mode = service.at("Spec.Mode");
        let goal = if !mode.at("Replicated").is_null() {
            Goal::Replicated {
                slots: BTreeMap::new(),
            }
        } else if !mode.at("Global").is_null() {
            Goal::Global
        } else if !mode.at("ReplicatedJob").is_null() {
            let job = mode.at("ReplicatedJob");
            Goal::Job {
                total: job.int("TotalCompletions"),
                concurrent: job.int("MaxConcurrent"),
            }
        } else if !mode.at("GlobalJob").is_null() {
            Goal::GlobalJob { nodes: Vec::new() }
        } else {
            return Err(Exit::failure("unrecognized service mode"));
        };
        Ok(Self {
            screen: Screen::new(quiet),
            goal,
            begun: false,
            done: false,
        })
    }

    /// Looks at the tasks once; whether the goal is reached.
    fn look(&mut self, inv: &Invocation, service: &Value, rollback: bool) -> Outcome<bool> {
        let mut filters = Filters::default();
        filters.add("service", service.text("ID"));
        filters.add("_up-to-date", "true");
        let tasks = inv
            .client
            .get(&Query::new().filters(&filters).on("/tasks"))?;
        let tasks: Vec<Value> = tasks
            .elements()
            .iter()
            .filter(|t| step(t.text("DesiredState")) != 0 && step(t.text("Status.State")) != 0)
            .cloned()
            .collect();
        let nodes = inv.client.get("/nodes")?;
        let up: Vec<&str> = nodes
            .elements()
            .iter()
            .filter(|n| n.text("Status.State") != "down")
            .map(|n| n.text("ID"))
            .collect();
        let iteration = service.int("JobStatus.JobIteration.Index");
        match &mut self.goal {
            Goal::Replicated { .. } => self.replicated(service, &tasks, &up, rollback),
            Goal::Global => self.global(&tasks, &up, rollback),
            Goal::Job { total, concurrent } => {
                let (total, concurrent) = (*total, *concurrent);
                self.job(&tasks, iteration, total, concurrent)
            }
            Goal::GlobalJob { .. } => self.global_job(&tasks, iteration, &up),
        }
    }

    fn overall(&mut self, done: i64, all: i64, rollback: bool) -> Outcome {
        let prefix = if rollback {
            "rolling back update: "
        } else {
            ""
        };
        self.screen.show(
            "overall progress",
            &format!("{prefix}{done} out of {all} tasks"),
        )
    }

    fn replicated(
        &mut self,
        service: &Value,
        tasks: &[Value],
        up: &[&str],
        rollback: bool,
    ) -> Outcome<bool> {
        let wanted = match service.at("Spec.Mode.Replicated.Replicas") {
            Value::Null => 1,
            count => count.as_int(),
        };
        if !self.begun {
            self.overall(0, wanted, rollback)?;
            if wanted <= BARS_MAX {
                for n in 1..=wanted {
                    self.screen.show(&format!("{n}/{wanted}"), " ")?;
                }
            }
            self.begun = true;
        }
        let lead = leading(
            tasks,
            |t| t.int("Slot"),
            |t| t.text("NodeID").is_empty() || up.contains(&t.text("NodeID")),
        );
        self.note_failures(lead.values());
        let mut running = 0;
        for (slot, task) in &lead {
            let place = match &mut self.goal {
                Goal::Replicated { slots } => {
                    let next = i64::try_from(slots.len()).unwrap_or(0) + 1;
                    *slots.entry(*slot).or_insert(next)
                }
                _ => *slot,
            };
            running += i64::from(runs(task));
            if wanted <= BARS_MAX && place <= wanted {
                self.task_line(&format!("{place}/{wanted}"), task, STEPS)?;
            }
        }
        self.close(running, wanted, rollback)
    }

    /// A task that runs no more opens the count again.
    fn note_failures<'t>(&mut self, mut tasks: impl Iterator<Item = &'t &'t Value>) {
        if self.done && tasks.any(|task| task.text("Status.State") != "running") {
            self.done = false;
        }
    }

    fn close(&mut self, running: i64, wanted: i64, rollback: bool) -> Outcome<bool> {
        if !self.done {
            self.overall(running, wanted, rollback)?;
            self.done = running == wanted;
        }
        Ok(running == wanted)
    }

    fn global(&mut self, tasks: &[Value], up: &[&str], rollback: bool) -> Outcome<bool> {
        let lead = leading(tasks, |t| t.text("NodeID").to_owned(), |_| true);
        let wanted = i64::try_from(lead.len()).unwrap_or(0);
        if !self.begun {
            if wanted == 0 {
                self.screen
                    .show("overall progress", "waiting for new tasks")?;
                return Ok(false);
            }
            self.overall(0, wanted, rollback)?;
            self.begun = true;
        }
        self.note_failures(lead.values());
        let mut running = 0;
        for (node, task) in lead.iter().filter(|(node, _)| up.contains(&node.as_str())) {
            running += i64::from(runs(task));
            if wanted <= BARS_MAX {
                self.task_line(&short_id(node), task, STEPS)?;
            }
        }
        self.close(running, wanted, rollback)
    }

    /// A task's own line: its error, or how far it is.
    fn task_line(&mut self, id: &str, task: &Value, steps: i64) -> Outcome {
        if self.done {
            return Ok(());
        }
        let (state, error) = (task.text("Status.State"), task.text("Status.Err"));
        if !error.is_empty() {
            let error = error.replace('\n', " ");
            return self
                .screen
                .show(id, &super::super::format::ellipsis(&error, ERROR_WIDTH));
        }
        let over = is_terminal(task.text("DesiredState")) || is_terminal(state);
        if over && steps == STEPS {
            return Ok(());
        }
        self.screen
            .bar(id, &format!("{state:<STATE_WIDTH$}"), step(state), steps)
    }

    fn job(
        &mut self,
        tasks: &[Value],
        iteration: i64,
        total: i64,
        concurrent: i64,
    ) -> Outcome<bool> {
        if !self.begun {
            self.job_progress(0, total)?;
            self.active(0, total.min(concurrent), concurrent)?;
            if total <= BARS_MAX {
                for n in 1..=total {
                    self.screen.show(&format!("{n}/{total}"), " ")?;
                }
            }
            self.begun = true;
        }
        let lead = newest(tasks, iteration, |t| t.int("Slot"));
        let (mut active, mut complete) = (0, 0);
        for (slot, task) in &lead {
            if total <= BARS_MAX {
                self.task_line(&format!("{}/{total}", slot + 1), task, JOB_STEPS)?;
            }
            let state = task.text("Status.State");
            active += i64::from(step(state) < step("complete"));
            complete += i64::from(state == "complete");
        }
        self.job_progress(complete, total)?;
        self.active(active, (total - complete).min(concurrent), concurrent)?;
        Ok(complete == total)
    }

    fn job_progress(&mut self, complete: i64, total: i64) -> Outcome {
        let width = total.to_string().len();
        let text = format!("{complete:width$} out of {total} complete");
        self.screen.bar("job progress", &text, complete, total)
    }

    fn active(&mut self, active: i64, wanted: i64, concurrent: i64) -> Outcome {
        let width = concurrent.to_string().len();
        self.screen.show(
            "active tasks",
            &format!("{active:width$} out of {wanted:width$} tasks"),
        )
    }

    fn global_job(&mut self, tasks: &[Value], iteration: i64, up: &[&str]) -> Outcome<bool> {
        let lead = newest(tasks, iteration, |t| t.text("NodeID").to_owned());
        if !self.begun {
            if tasks.is_empty() && !up.is_empty() {
                self.screen.show("job progress", "waiting for tasks")?;
                return Ok(false);
            }
            if let Goal::GlobalJob { nodes } = &mut self.goal {
                *nodes = lead.keys().cloned().collect();
            }
            self.begun = true;
        }
        let nodes = match &self.goal {
            Goal::GlobalJob { nodes } => nodes.clone(),
            _ => Vec::new(),
        };
        let total = i64::try_from(nodes.len()).unwrap_or(0);
        let mut complete = 0;
        for (node, task) in lead.iter().filter(|(node, _)| nodes.contains(node)) {
            if total <= BARS_MAX {
                self.task_line(&short_id(node), task, JOB_STEPS)?;
            }
            complete += i64::from(task.text("Status.State") == "complete");
        }
        self.job_progress(complete, total)?;
        Ok(complete == total)
    }
}

fn runs(task: &Value) -> bool {
    !is_terminal(task.text("DesiredState")) && task.text("Status.State") == "running"
}

/// The task that stands for each slot or node: the one wanted most, and of
/// those the one least far on, so that a replacement hides what it replaces.
fn leading<K: Ord>(
    tasks: &[Value],
    key: impl Fn(&Value) -> K,
    counts: impl Fn(&Value) -> bool,
) -> BTreeMap<K, &Value> {
    let mut lead: BTreeMap<K, &Value> = BTreeMap::new();
    let rank = |t: &Value| (step(t.text("DesiredState")), step(t.text("Status.State")));
    for task in tasks.iter().filter(|t| counts(t)) {
        match lead.get(&key(task)) {
            Some(old) if rank(old) <= rank(task) => {}
            _ => {
                lead.insert(key(task), task);
            }
        }
    }
    lead
}

/// The task of a job's iteration that stands for each slot or node.
fn newest<K: Ord>(
    tasks: &[Value],
    iteration: i64,
    key: impl Fn(&Value) -> K,
) -> BTreeMap<K, &Value> {
    let mut lead: BTreeMap<K, &Value> = BTreeMap::new();
    for task in tasks
        .iter()
        .filter(|t| t.int("JobIteration.Index") == iteration)
    {
        match lead.get(&key(task)) {
            Some(old) if step(old.text("Status.State")) <= step(task.text("Status.State")) => {}
            _ => {
                lead.insert(key(task), task);
            }
        }
    }
    lead
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(slot: i64, desired: &str, state: &str) -> Value {
        Value::from(
            serde_json::json!({"Slot": slot, "DesiredState": desired, "Status": {"State": state}}),
        )
    }

    #[test]
    fn a_replacement_stands_for_its_slot() {
        let tasks = [
            task(1, "shutdown", "failed"),
            task(1, "running", "starting"),
            task(2, "running", "running"),
        ];
        let lead = leading(&tasks, |t| t.int("Slot"), |_| true);
        assert_eq!(lead[&1].text("Status.State"), "starting");
        assert!(runs(lead[&2]) && !runs(lead[&1]));
    }

    #[test]
    fn states_are_in_order() {
        assert!(step("preparing") < step("running") && step("running") < step("complete"));
        assert!(is_terminal("failed") && !is_terminal("running") && step("nonsense") == 0);
        assert_eq!(step("running"), STEPS);
    }
}
