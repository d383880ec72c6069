//! Several boards in one street, joined into a swarm.
//!
//! Boards are numbered from 0 and called `n0`, `n1`, …; the first ones are the
//! managers. Invariant: every board goes when the cluster is dropped, whatever
//! happened to it before.

use crate::board::Board;
use crate::lan::Lan;
use crate::program::Ran;
use crate::wait::{until, within};
use std::ops::{Index, IndexMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The port between nodes.
const PORT: u16 = 2377;
/// A cluster of seven on a loaded machine of two cores comes up in this time.
const FORMING: Duration = Duration::from_secs(60);

/// Tasks of a lost node on a loaded machine run elsewhere in this time.
const SETTLING: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Boards that are, or will be, one swarm.
pub struct Cluster {
    boards: Vec<Board>,
}

impl Cluster {
    /// Boards with their agents running, in no swarm.
    ///
    /// # Panics
    /// When an agent does not answer.
    pub fn apart(count: usize) -> Self {
        let lan = Arc::new(Lan::new());
        let boards = (0..count).map(|number| Board::prepare(&lan, &format!("n{number}")));
        let mut boards: Vec<Board> = boards.collect();
        std::thread::scope(|scope| {
            for board in &mut boards {
                scope.spawn(|| board.start_agent());
            }
        });
        Self { boards }
    }

    /// A swarm of so many managers and workers, every one of them ready.
    ///
    /// # Panics
    /// When it does not come about.
    pub fn of(managers: usize, workers: usize) -> Self {
        let cluster = Self::apart(managers + workers);
        cluster.init();
        for number in 1..managers + workers {
            let role = if number < managers {
                "manager"
            } else {
                "worker"
            };
            cluster.join(number, role).ok();
        }
        within(FORMING, "every node is ready", || {
            let nodes = cluster.nodes()?;
            let ready = nodes.iter().filter(|node| node.status == "Ready").count();
            let reachable = nodes.iter().filter(|node| node.is_reachable()).count();
            (ready == managers + workers && reachable == managers).then_some(())
        });
        cluster
    }

    /// Begins a swarm on the first board.
    ///
    /// # Panics
    /// When it is refused.
    pub fn init(&self) {
        let address = self[0].address().to_string();
        self[0]
            .docker(&["swarm", "init", "--advertise-addr", &address])
            .ok();
    }

    /// Has a board join the swarm of the first that runs, as `manager` or
    /// `worker`.
    pub fn join(&self, number: usize, role: &str) -> Ran {
        let token = self.token(role);
        self.join_with(number, &token)
    }

    /// The same with any token.
    pub fn join_with(&self, number: usize, token: &str) -> Ran {
        let remotes = self.running().filter(|other| *other != number);
        let first = remotes.min().expect("another board runs");
        let remote = self.remote(first);
        self[number].docker(&["swarm", "join", "--token", token, &remote])
    }

    /// What `swarm join` is given to find a board.
    pub fn remote(&self, number: usize) -> String {
        format!("{}:{PORT}", self[number].address())
    }

    /// The token for `manager` or `worker`.
    ///
    /// # Panics
    /// When nobody tells.
    pub fn token(&self, role: &str) -> String {
        until("somebody tells the token", || {
            self.running().find_map(|number| {
                let ran = self[number].docker(&["swarm", "join-token", "-q", role]);
                (ran.code == 0).then(|| ran.out.trim().to_owned())
            })
        })
    }

    /// Loads a sample image on every board.
    ///
    /// # Panics
    /// When it is not loaded.
    pub fn load(&self, image: &str) {
        // Made before, or each would try to make it.
        drop(crate::sample(image));
        std::thread::scope(|scope| {
            for number in self.running() {
                let board = &self[number];
                scope.spawn(|| board.load(image));
            }
        });
    }

    /// `node ls` of the first board that answers.
    pub fn nodes(&self) -> Option<Vec<Node>> {
        self.running().find_map(|number| self.nodes_from(number))
    }

    /// `node ls` as asked on one board.
    pub fn nodes_from(&self, number: usize) -> Option<Vec<Node>> {
        let format = "{{.ID}}|{{.Hostname}}|{{.Status}}|{{.Availability}}|{{.ManagerStatus}}";
        let ran = self[number].docker(&["node", "ls", "--format", format]);
        let nodes = ran.lines().into_iter().filter_map(Node::parse).collect();
        (ran.code == 0).then_some(nodes)
    }

    /// The number of the leader, as soon as somebody knows one that is not
    /// among `except`.
    ///
    /// # Panics
    /// When nobody does.
    pub fn leader_but(&self, except: &[usize]) -> usize {
        until("there is a leader", || {
            let nodes = self.nodes()?;
            let leader = nodes.iter().find(|node| node.manager == "Leader")?;
            let number = self.number_of(&leader.hostname)?;
            (!except.contains(&number)).then_some(number)
        })
    }

    /// The number of the leader.
    ///
    /// # Panics
    /// When there is none.
    pub fn leader(&self) -> usize {
        self.leader_but(&[])
    }

    /// The number of the board with that name.
    pub fn number_of(&self, hostname: &str) -> Option<usize> {
        let named = |board: &Board| board.hostname() == hostname;
        self.boards.iter().position(named)
    }

    /// The swarm's id of a board.
    ///
    /// # Panics
    /// When it is in none.
    pub fn id_of(&self, number: usize) -> String {
        let info = self[number].docker(&["info", "--format", "{{.Swarm.NodeID}}"]);
        info.ok().to_owned()
    }

    /// The boards on which tasks of a service run, one entry a task, sorted;
    /// as told by board `from`.
    pub fn homes_from(&self, from: usize, service: &str) -> Vec<usize> {
        let words = [
            "service",
            "ps",
            service,
            "--filter",
            "desired-state=running",
        ];
        let format = ["--format", "{{.Node}}|{{.CurrentState}}"];
        let ran = self[from].docker(&[&words[..], &format].concat());
        let running = ran.lines().into_iter().filter_map(|line| {
            let (node, state) = line.split_once('|')?;
            let is_running = state.starts_with("Running");
            is_running.then(|| self.number_of(node)).flatten()
        });
        let mut homes: Vec<usize> = running.collect();
        homes.sort_unstable();
        homes
    }

    /// Creates a service of sleepers, which stop at once.
    ///
    /// # Panics
    /// When it is refused.
    pub fn sleepers(&self, from: usize, service: &str, replicas: usize) {
        let replicas = replicas.to_string();
        let words = [
            "service",
            "create",
            "-d",
            "--name",
            service,
            "--replicas",
            &replicas,
        ];
        let rest = [
            "--stop-signal",
            "KILL",
            "--restart-delay",
            "0s",
            "busybox",
            "sleep",
            "1d",
        ];
        self[from].docker(&[&words[..], &rest].concat()).ok();
    }

    /// Waits until so many tasks of a service run, none of them on a board of
    /// `except`, as told by board `from`. Returns where.
    ///
    /// # Panics
    /// When it does not come about.
    pub fn settled(
        &self,
        from: usize,
        service: &str,
        count: usize,
        except: &[usize],
    ) -> Vec<usize> {
        let start = Instant::now();
        loop {
            let homes = self.homes_from(from, service);
            let is_elsewhere = homes.iter().all(|home| !except.contains(home));
            if homes.len() == count && is_elsewhere {
                return homes;
            }
            if start.elapsed() > SETTLING {
                let told = self[from].docker(&["service", "ps", "--no-trunc", service]);
                let nodes = self[from].docker(&["node", "ls"]);
                panic!("not {count} tasks of {service}, none on {except:?}: {told}\n{nodes}");
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until a board's row of `node ls`, as told by board `from`, is as
    /// wished.
    ///
    /// # Panics
    /// When it does not come about.
    pub fn sees(&self, from: usize, number: usize, what: &str, wish: impl Fn(&Node) -> bool) {
        let hostname = self[number].hostname().to_owned();
        until(&format!("n{from} sees {hostname} {what}"), || {
            let nodes = self.nodes_from(from)?;
            let mut rows = nodes.iter().filter(|node| node.hostname == hostname);
            rows.any(&wish).then_some(())
        });
    }

    /// How many containers of a service really run on a board.
    pub fn live_on(&self, number: usize, service: &str) -> usize {
        let label = format!("label=com.docker.swarm.service.name={service}");
        let ran = self[number].docker(&["ps", "-q", "--filter", &label]);
        ran.lines().len()
    }

    /// All boards, for doing something to several at once.
    pub fn boards_mut(&mut self) -> &mut [Board] {
        &mut self.boards
    }

    /// Numbers of the boards whose agents run.
    pub fn running(&self) -> impl Iterator<Item = usize> {
        let boards = self.boards.iter().enumerate();
        boards.filter_map(|(number, board)| board.has_agent().then_some(number))
    }
}

impl Index<usize> for Cluster {
    type Output = Board;
    fn index(&self, number: usize) -> &Board {
        &self.boards[number]
    }
}

impl IndexMut<usize> for Cluster {
    fn index_mut(&mut self, number: usize) -> &mut Board {
        &mut self.boards[number]
    }
}

/// A row of `node ls`.
#[derive(Clone, Debug)]
pub struct Node {
    /// The swarm's id of it.
    pub id: String,
    /// What it calls itself.
    pub hostname: String,
    /// `Ready`, `Down`, `Unknown`.
    pub status: String,
    /// `Active`, `Pause`, `Drain`.
    pub availability: String,
    /// `Leader`, `Reachable`, `Unreachable` or nothing.
    pub manager: String,
}

impl Node {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('|').map(str::to_owned);
        Some(Self {
            id: fields.next()?,
            hostname: fields.next()?,
            status: fields.next()?,
            availability: fields.next()?,
            manager: fields.next()?,
        })
    }

    /// A manager that takes part.
    pub fn is_reachable(&self) -> bool {
        self.manager == "Leader" || self.manager == "Reachable"
    }
}
