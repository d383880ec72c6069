//! How a service settles: what `create`, `update`, `scale` and `rollback`
//! show until every task runs and has run for the monitor period.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::super::Invocation;
use super::super::exit::{self, Exit, Outcome};
use super::super::filters::Filters;
use super::super::format::short_id;
use super::super::http::Query;
use super::super::json::Value;
use super::super::signals::Signals;
use super::super::terminal;
use super::path;

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
/// Terminals narrower than this show no bars.
const BAR_COLUMNS_MIN: u16 = 110;
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

/// Where progress is shown: lines that replace each other on a terminal, one
/// after another elsewhere.
struct Screen {
    quiet: bool,
    terminal: bool,
    bars: bool,
    lines: Vec<(String, String)>,
}

impl Screen {
    fn new(quiet: bool) -> Self {
        let terminal = terminal::stdout_is_terminal();
        let wide = terminal::size().is_none_or(|(_, columns)| columns > BAR_COLUMNS_MIN);
        Self {
            quiet,
            terminal,
            bars: wide,
            lines: Vec::new(),
        }
    }

    /// Shows a line under an id.
    fn show(&mut self, id: &str, text: &str) -> Outcome {
        if self.quiet {
            return Ok(());
        }
        if !self.terminal {
            return exit::print(&if id.is_empty() {
                format!("{text}\n")
            } else {
                format!("{id}: {text}\n")
            });
        }
        if id.is_empty() {
            self.lines.clear();
            return exit::print(&format!("{text}\n"));
        }
        let at = match self.lines.iter().position(|(known, _)| known == id) {
            Some(at) if self.lines[at].1 == text => return Ok(()),
            Some(at) => {
                text.clone_into(&mut self.lines[at].1);
                at
            }
            None => {
                self.lines.push((id.to_owned(), text.to_owned()));
                exit::print("\n")?;
                self.lines.len() - 1
            }
        };
        let up = self.lines.len() - at;
        exit::print(&format!("\x1b[{up}A\x1b[2K\r{id}: {text}\r\x1b[{up}B"))
    }

    /// Shows a line with how far it is; only where a bar can be seen move.
    fn bar(&mut self, id: &str, text: &str, current: i64, total: i64) -> Outcome {
        if !self.terminal {
            return Ok(());
        }
        let filled = usize::try_from(current * 50 / total.max(1))
            .unwrap_or(0)
            .min(50);
        let bar = format!("[{}>{}] ", "=".repeat(filled), " ".repeat(50 - filled));
        self.show(
            id,
            &format!("{text} {}", if self.bars { bar.as_str() } else { "" }),
        )
    }
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

/// Waits until a service has settled, showing how it goes; ctrl-c leaves it
/// to go on by itself.
pub(super) fn wait(inv: &Invocation, name: &str, quiet: bool) -> Outcome {
    let interrupted = Arc::new(AtomicBool::new(false));
    if let Ok(mut signals) = Signals::take(&[libc::SIGINT]) {
        let flag = Arc::clone(&interrupted);
        std::thread::spawn(move || {
            while signals.next().is_ok() {
                flag.store(true, Ordering::SeqCst);
            }
        });
    }
    let mut progress: Option<Progress> = None;
    let (mut settled, mut was_settled) = (None::<Instant>, false);
    let mut message = None;
    let mut rollback = false;
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
        let text = service.text("UpdateStatus.Message");
        match service.text("UpdateStatus.State") {
            "updating" => rollback = false,
            "completed" if !was_settled => return Ok(()),
            "paused" => return Err(Exit::failure(format!("service update paused: {text}"))),
            "rollback_started" => {
                if !rollback && !text.is_empty() {
                    progress.screen.show("rollback", text)?;
                }
                rollback = true;
            }
            "rollback_paused" => {
                return Err(Exit::failure(format!("service rollback paused: {text}")));
            }
            "rollback_completed" => {
                if !was_settled {
                    message = Some(text.to_owned());
                }
                rollback = true;
            }
            _ => {}
        }
        if was_settled && settled.is_some_and(|at| at.elapsed() >= monitor) {
            progress
                .screen
                .show("verify", &format!("Service {name} converged"))?;
            if let Some(message) = &message {
                progress.screen.show("rollback", message)?;
            }
            return Ok(());
        }
        was_settled = progress.look(inv, &service, rollback)?;
        if was_settled && !service.at("JobStatus").is_null() {
            return progress.screen.show("", "job complete");
        }
        if was_settled {
            let since = *settled.get_or_insert_with(Instant::now);
            let left = monitor.saturating_sub(since.elapsed()).as_secs() + 1;
            progress.screen.show(
                "verify",
                &format!("Waiting {left} seconds to verify that tasks are stable..."),
            )?;
        } else if settled.take().is_some() {
            progress.screen.show("verify", "Detected task failure")?;
        }
        std::thread::sleep(POLL);
        if interrupted.load(Ordering::SeqCst) {
            if !was_settled {
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
        let wanted = service.int("Spec.Mode.Replicated.Replicas");
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
