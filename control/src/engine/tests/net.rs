//! Several engines on a tiny network: what they send arrives a millisecond
//! later, unless a board is off. Executors do as they are told at once.

use super::*;

/// A board of the network; `None` while its power is off.
struct Board {
    node: Option<Node>,
    member: Option<Member>,
    consensus: Vec<u8>,
    log: Vec<u8>,
    /// Tasks whose process is there, by the board and not by its agent.
    running: BTreeSet<TaskId>,
    links: BTreeSet<NodeId>,
    starts: u8,
}

pub(super) struct Net {
    boards: BTreeMap<NodeId, Board>,
    now: Millis,
    flying: VecDeque<(NodeId, NodeId, Packet)>,
    gossips: bool,
}

/// Everybody believes everybody, who says whose key it is.
struct TestKeys(NodeId);

impl Keys for TestKeys {
    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        crc32c::crc32c(bytes).to_le_bytes().to_vec()
    }
    fn public(&self) -> Vec<u8> {
        self.0.as_str().into()
    }
    fn verify(&self, node: &NodeId, public: &[u8], bytes: &[u8], signature: &[u8]) -> bool {
        node.as_str().as_bytes() == public && self.sign(bytes) == signature
    }
}

enum Packet {
    Message(Message),
    Datagram(Vec<u8>),
}

pub(super) fn id(number: usize) -> NodeId {
    NodeId(format!("n{number}"))
}

fn addr(node: &NodeId) -> std::net::SocketAddr {
    let number: u8 = node.as_str()[1..].parse().unwrap();
    std::net::SocketAddr::from(([192, 0, 2, number], 2377))
}

impl Net {
    /// Node `n1`, which made the cluster.
    pub(super) fn new() -> Self {
        Self::begin(true)
    }

    fn begin(gossips: bool) -> Self {
        let mut net = Self {
            boards: BTreeMap::new(),
            now: Millis(1000),
            flying: VecDeque::new(),
            gossips,
        };
        net.plug(1);
        let init = SwarmInit {
            advertise_addr: addr(&id(1)).to_string(),
            founding: Founding {
                node: id(1),
                ca_cert_pem: "authority".into(),
                ca_key_pem: "secret".into(),
                ca_digest: "d".repeat(50),
            },
            ..SwarmInit::default()
        };
        net.node(1).ask(Request::SwarmInit(Box::new(init))).unwrap();
        let view = net.node(1).engine.view();
        let cluster = view.cluster().unwrap().id.clone();
        net.board(1).member = Some(Member {
            cluster,
            node: id(1),
            role: NodeRole::Manager,
            addr: addr(&id(1)),
            managers: Vec::new(),
        });
        net.run(100);
        net
    }

    /// A cluster of `managers` and then `workers`.
    pub(super) fn of(managers: usize, workers: usize) -> Self {
        Self::begin(true).with(managers, workers)
    }

    /// The same without gossip: connections say who is there.
    pub(super) fn silent(managers: usize, workers: usize) -> Self {
        Self::begin(false).with(managers, workers)
    }

    fn with(self, managers: usize, workers: usize) -> Self {
        let mut net = self;
        for number in 2..=managers {
            net.join(number, NodeRole::Manager).unwrap();
        }
        for number in managers + 1..=managers + workers {
            net.join(number, NodeRole::Worker).unwrap();
        }
        net.run(3_000);
        net
    }

    fn plug(&mut self, number: usize) {
        let board = self.boards.entry(id(number)).or_insert(Board {
            node: None,
            member: None,
            consensus: Vec::new(),
            log: Vec::new(),
            running: BTreeSet::new(),
            links: BTreeSet::new(),
            starts: 0,
        });
        board.starts += 1;
        let config = Config {
            seed: [number as u8 * 16 + board.starts; 32],
            listen_addr: addr(&id(number)).to_string(),
            member: board.member.clone(),
            log_key: LogKey::new([number as u8; 32]),
        };
        let found = board.running.iter().map(started).collect();
        let recovered = Recovered {
            consensus: board.consensus.clone(),
            node: board.log.clone(),
            found,
        };
        let mut node = Node::start_as(config, recovered, self.now);
        if self.gossips {
            let keys = move || Box::new(TestKeys(id(number))) as Box<dyn Keys>;
            node.engine.gossip_with(Box::new(keys));
            node.input(Input::Wake);
        }
        board.node = Some(node);
    }

    /// Board `number` asks the leader to be let in.
    pub(super) fn join(&mut self, number: usize, role: NodeRole) -> Result<Joined, Refusal> {
        let leader = self.leader();
        let cluster = self.node(leader).engine.view().cluster().unwrap().clone();
        let token = match role {
            NodeRole::Worker => cluster.worker_token,
            NodeRole::Manager => cluster.manager_token,
        };
        self.join_with(number, Some(token), role)
    }

    pub(super) fn join_with(
        &mut self,
        number: usize,
        token: Option<String>,
        wants: NodeRole,
    ) -> Result<Joined, Refusal> {
        let request = Request::NodeJoin(Box::new(NodeJoin {
            token,
            node: id(number),
            addr: addr(&id(number)),
            description: about(),
            availability: Availability::Active,
            wants,
        }));
        let Answer::Joined(joined) = self.ask(request)? else {
            panic!("no certificate");
        };
        let member = Member {
            cluster: joined.cluster.clone(),
            node: id(number),
            role: joined.role,
            addr: addr(&id(number)),
            managers: joined.managers.clone(),
        };
        if !self.boards.contains_key(&id(number)) {
            self.plug(number);
        }
        self.board(number).member = Some(member.clone());
        self.node(number).input(Input::Joined(Box::new(member)));
        self.run(200);
        Ok(*joined)
    }

    /// The power of a board goes.
    pub(super) fn cut(&mut self, number: usize) {
        let board = self.board(number);
        if let Some(node) = board.node.take() {
            board.consensus = node.consensus;
            board.log = node.log;
        }
        board.running.clear();
        board.links.clear();
        self.unlink(&id(number));
    }

    fn unlink(&mut self, gone: &NodeId) {
        for board in self.boards.values_mut() {
            if board.links.remove(gone)
                && let Some(node) = &mut board.node
            {
                node.input(Input::Disconnected(gone.clone()));
            }
        }
    }

    /// Somebody left the cluster on it, or gave it a new card with its key.
    pub(super) fn wipe(&mut self, number: usize) {
        self.boards.remove(&id(number));
    }

    pub(super) fn power(&mut self, number: usize) {
        self.plug(number);
    }

    pub(super) fn node(&mut self, number: usize) -> &mut Node {
        self.board(number).node.as_mut().expect("its power is on")
    }
    fn board(&mut self, number: usize) -> &mut Board {
        self.boards.get_mut(&id(number)).expect("a board")
    }
    fn numbers(&self) -> Vec<usize> {
        let on = self.boards.iter().filter(|(_, board)| board.node.is_some());
        on.map(|(id, _)| id.as_str()[1..].parse().unwrap())
            .collect()
    }

    /// The only leader.
    pub(super) fn leader(&mut self) -> usize {
        let mut leaders = self.leaders();
        let leader = leaders.pop().expect("a leader");
        assert!(leaders.is_empty(), "one leader");
        leader
    }
    pub(super) fn leaders(&mut self) -> Vec<usize> {
        let mut numbers = self.numbers();
        numbers.retain(|number| self.node(*number).engine.view().is_leader());
        numbers
    }

    /// Asks the leader.
    pub(super) fn ask(&mut self, request: Request) -> Result<Answer, Refusal> {
        let leader = self.leader();
        self.ask_at(leader, request)
    }
    pub(super) fn ask_at(&mut self, number: usize, request: Request) -> Result<Answer, Refusal> {
        let node = self.node(number);
        node.tickets += 1;
        let ticket = Ticket(node.tickets);
        node.input(Input::Request { ticket, request });
        for _ in 0..1000 {
            let node = self.node(number);
            if let Some(at) = node.answers.iter().position(|(of, _)| *of == ticket) {
                return node.answers.remove(at).1;
            }
            self.run(10);
        }
        panic!("no answer within ten seconds");
    }

    /// Lets `millis` pass.
    pub(super) fn run(&mut self, millis: u64) {
        let until = self.now.plus(millis);
        while self.now < until {
            self.now = self.now.plus(1);
            for number in self.numbers() {
                let now = self.now;
                let node = self.node(number);
                node.now = now;
                if node.wake_at.is_some_and(|at| at <= now) {
                    node.input(Input::Wake);
                }
            }
            self.execute();
            self.deliver();
        }
    }

    fn execute(&mut self) {
        for number in self.numbers() {
            let steps = std::mem::take(&mut self.node(number).steps);
            for step in steps {
                let board = self.board(number);
                let mut seen = Vec::new();
                match step {
                    Step::Prepare(run) => seen.push(prepared(&run.task)),
                    Step::Start { task } => {
                        seen.push(started(&task));
                        board.running.insert(task);
                    }
                    Step::Stop { task, .. } => {
                        board.running.remove(&task);
                        seen.push(exited(&task, 0));
                    }
                    Step::Remove { task } => {
                        board.running.remove(&task);
                        seen.push(Observation::Removed { task });
                    }
                    Step::RestartLocal { .. } => {}
                }
                for observation in seen {
                    self.node(number).see(observation);
                }
            }
        }
    }

    /// What was sent in the last millisecond arrives; what is sent meanwhile
    /// waits for the next.
    fn deliver(&mut self) {
        for (from, to, packet) in std::mem::take(&mut self.flying) {
            let Some(member) = self.boards[&from].member.clone() else {
                continue;
            };
            let peer = Peer {
                node: from.clone(),
                role: member.role,
                addr: addr(&from),
            };
            if !self.boards.contains_key(&to) {
                continue;
            }
            if self
                .boards
                .get(&from)
                .is_none_or(|from| from.node.is_none())
            {
                continue;
            }
            let board = self.boards.get_mut(&to).unwrap();
            let Some(node) = &mut board.node else {
                continue;
            };
            if board.links.insert(from.clone()) {
                node.input(Input::Connected(peer.clone()));
                let back = Peer {
                    node: to.clone(),
                    role: self.boards[&to].member.as_ref().unwrap().role,
                    addr: addr(&to),
                };
                let other = self.boards.get_mut(&from).unwrap();
                if other.links.insert(to.clone())
                    && let Some(other) = &mut other.node
                {
                    other.input(Input::Connected(back));
                }
            }
            let node = self.boards.get_mut(&to).unwrap().node.as_mut().unwrap();
            node.input(match packet {
                Packet::Message(message) => Input::Received {
                    from: peer,
                    message,
                },
                Packet::Datagram(bytes) => Input::Datagram { from: peer, bytes },
            });
        }
        for number in self.numbers() {
            let from = id(number);
            let node = self.node(number);
            let sends = std::mem::take(&mut node.sends).into_iter();
            let sends = sends.map(|send| (send.to.node, Packet::Message(send.message)));
            let datagrams = std::mem::take(&mut node.datagrams).into_iter();
            let datagrams = datagrams.map(|of| (of.to.node, Packet::Datagram(of.bytes)));
            let all: Vec<_> = sends.chain(datagrams).collect();
            for (to, packet) in all {
                self.flying.push_back((from.clone(), to, packet));
            }
            self.certify(number);
        }
    }

    /// The edge fetches the certificate that the node is to have.
    fn certify(&mut self, number: usize) {
        let Some(trust) = &self.node(number).trust else {
            return;
        };
        let role = trust.role;
        let member = self.board(number).member.as_mut().unwrap();
        if member.role != role {
            member.role = role;
            self.node(number).input(Input::Certified(role));
        }
    }

    /// Creates a service of so many replicas.
    pub(super) fn create(&mut self, name: &str, replicas: u64) {
        self.create_with(name, replicas, |_| {});
    }

    pub(super) fn create_with(
        &mut self,
        name: &str,
        replicas: u64,
        change: impl FnOnce(&mut ServiceSpec),
    ) {
        let leader = self.leader();
        let mut spec = ServiceSpec {
            name: name.into(),
            ..ServiceSpec::default()
        };
        spec.task_template.container_spec.image = "web:1".into();
        spec.mode.replicated = Some(ReplicatedService {
            replicas: Some(replicas),
        });
        change(&mut spec);
        self.ask_at(leader, Request::ServiceCreate(Box::new(spec)))
            .unwrap();
    }

    /// How many tasks run on each board.
    pub(super) fn spread(&self) -> Vec<usize> {
        self.boards
            .values()
            .map(|board| board.running.len())
            .collect()
    }
}

impl Net {
    /// What the tables of the leader say of a node.
    pub(super) fn row(&mut self, number: usize) -> crate::model::Node {
        let leader = self.leader();
        let view = self.node(leader).engine.view();
        view.state().node(&id(number)).unwrap().clone()
    }

    /// Promotes or demotes.
    pub(super) fn change_role(&mut self, number: usize, role: NodeRole) -> Result<Answer, Refusal> {
        let row = self.row(number);
        let mut spec = row.spec.clone();
        spec.role = role;
        self.ask(Request::NodeUpdate {
            node: id(number).to_string(),
            version: row.meta.version.index,
            spec: Box::new(spec),
        })
    }

    /// Who votes, as every manager that is on sees it.
    pub(super) fn managers(&mut self) -> Vec<usize> {
        let mut numbers = self.numbers();
        numbers.retain(|number| self.node(*number).engine.view().is_manager());
        numbers
    }
}

impl Net {
    /// The consensus log on a board's disk.
    pub(super) fn board_consensus(&mut self, number: usize) -> Vec<u8> {
        self.node(number).consensus.clone()
    }
}

impl Net {
    /// The only task on a board fails. Returns whether another one runs soon.
    pub(super) fn fail_one(&mut self, number: usize) -> bool {
        let board = self.board(number);
        let task = board.running.pop_first().expect("a task");
        self.node(number).see(exited(&task, 1));
        self.run(300);
        !self.board(number).running.is_empty()
    }
}
