//! The whole of it against a real kernel, in network namespaces of the test's
//! own. Needs root; says so and passes where there is none.
//!
//! Each test is a thread that enters a namespace of its own: the node. Its
//! streets (clients outside) are further namespaces. Everything goes with the
//! threads and the temporary folder, also when a test panics.

use super::attach::{Attach, Live, Sandbox};
use super::core::{Core, HostFiles};
use super::links::{Found, Links, Operation};
use super::netns::{Folder, within};
use super::nft::Prefix;
use super::{Options, random_hex};
use rustix::mount::UnmountFlags;
use skep_control::model::{
    Address, EndpointIpamConfig, EndpointSettings, IpamConfig, NetworkSpec, PortBinding,
    PortConfig, WallTime,
};
use skep_control::routes::{Backend, Names, Routes, ServiceRoute};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest that a test's socket waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// A node in a namespace of its own; the calling thread is in it.
struct Lab {
    dir: PathBuf,
    core: Option<Core>,
}

impl Lab {
    fn open_core(dir: &Path) -> Core {
        let options = Options {
            data_dir: dir.join("data"),
            run_dir: dir.join("run"),
        };
        let files = HostFiles {
            resolv_conf: dir.join("resolv.conf"),
            resolv_conf_behind_stub: dir.join("absent"),
            hosts: dir.join("absent"),
        };
        Core::open(&options, files, WallTime::default()).unwrap()
    }

    fn core(&mut self) -> &mut Core {
        self.core.as_mut().unwrap()
    }

    /// The agent dies and another one starts.
    fn restart(&mut self, live: &[Live]) {
        drop(self.core.take());
        let mut core = Self::open_core(&self.dir);
        core.adopt(live).unwrap();
        self.core = Some(core);
    }

    fn attach(&mut self, name: &str, network: &str) -> (Live, PathBuf) {
        self.attach_with(name, network, |_| {})
    }

    fn attach_with(
        &mut self,
        name: &str,
        network: &str,
        change: impl FnOnce(&mut Attach),
    ) -> (Live, PathBuf) {
        let mut attach = wish(name, network);
        change(&mut attach);
        let sandbox = self.core().attach(attach.clone()).unwrap();
        let netns = sandbox.netns.clone().unwrap();
        (Live { attach, sandbox }, netns)
    }

    fn network(&mut self, name: &str, change: impl FnOnce(&mut NetworkSpec)) -> String {
        let mut spec = NetworkSpec {
            name: name.into(),
            ..NetworkSpec::default()
        };
        change(&mut spec);
        self.core().create(spec, WallTime::default()).unwrap().0
    }

    /// What the node's namespace has, names and addresses only: indices grow.
    fn kernel(&self) -> (Vec<String>, Vec<String>) {
        let Found { links, addresses } = Links::open().unwrap().found().unwrap();
        let mut names: Vec<String> = links.into_iter().map(|link| link.name).collect();
        names.sort();
        let mut addresses: Vec<String> = addresses.iter().map(|(_, a)| a.to_string()).collect();
        addresses.sort();
        (names, addresses)
    }

    /// A machine beside the node, on a wire of its own: 192.0.2.2, the node is
    /// 192.0.2.1.
    fn neighbour(&mut self) -> PathBuf {
        let path = Folder::open(&self.dir.join("street")).unwrap();
        let path = path.make("neighbour").unwrap();
        super::inside::prepare(&path).unwrap();
        let mut links = Links::open().unwrap();
        let bridge = Operation::AddBridge {
            name: "wire".into(),
            alias: "test".into(),
            mac: [2, 0, 0, 0, 0, 9],
            mtu: 0,
        };
        let address = |name: &str, address: &str| Operation::AddAddress {
            name: name.into(),
            address: Prefix::parse(address).unwrap(),
        };
        links
            .apply(&[bridge, address("wire", "192.0.2.1/24")])
            .unwrap();
        let veth = super::links::Veth {
            name: "wire0".into(),
            alias: "test".into(),
            bridge: "wire".into(),
            inside: "eth0".into(),
            mac: [2, 0, 0, 0, 0, 8],
            mtu: 0,
            is_isolated: false,
        };
        use std::os::fd::AsRawFd;
        let namespace = std::fs::File::open(&path).unwrap();
        links.add_veth(&veth, namespace.as_raw_fd()).unwrap();
        within(&path, || {
            Links::open()?.apply(&[
                address("eth0", "192.0.2.2/24"),
                Operation::Up {
                    name: "eth0".into(),
                },
            ])
        })
        .unwrap();
        links.await_carrier("wire0").unwrap();
        links.await_carrier("wire").unwrap();
        path
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(core) = &mut self.core {
            let containers: Vec<String> = core.containers.keys().cloned().collect();
            containers
                .iter()
                .for_each(|container| core.detach(container));
            core.reap(|_| true);
        }
        for netns in ["run/netns", "street/netns"].map(|netns| self.dir.join(netns)) {
            for entry in std::fs::read_dir(&netns).into_iter().flatten().flatten() {
                let _ = rustix::mount::unmount(entry.path(), UnmountFlags::DETACH);
            }
            let _ = rustix::mount::unmount(&netns, UnmountFlags::DETACH);
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Runs a test on a thread that is alone in a new namespace.
fn lab(test: impl FnOnce(&mut Lab) + Send) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: network namespaces need root");
        return;
    }
    let run = move || {
        // SAFETY: this thread was made for the test and ends with it.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.unwrap();
        let up = Operation::Up { name: "lo".into() };
        Links::open().unwrap().apply(&[up]).unwrap();
        let dir = std::env::temp_dir().join(format!("skep-net-{}", random_hex::<6>()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
        let core = Lab::open_core(&dir);
        let mut lab = Lab {
            dir,
            core: Some(core),
        };
        lab.core().adopt(&[]).unwrap();
        test(&mut lab);
    };
    let done = std::thread::scope(|scope| scope.spawn(run).join());
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
}

fn wish(name: &str, network: &str) -> Attach {
    Attach {
        container: random_hex::<32>(),
        name: name.into(),
        hostname: name.into(),
        mode: network.into(),
        ..Attach::default()
    }
}

fn address(sandbox: &Sandbox, network: &str) -> IpAddr {
    sandbox.endpoints[network].ip_address.parse().unwrap()
}

fn binding(host_ip: &str, host_port: u16) -> Vec<PortBinding> {
    vec![PortBinding {
        host_ip: host_ip.into(),
        host_port: host_port.to_string(),
    }]
}

/// A server in a namespace that tells each client its address, and its name.
fn serve(netns: &Path, name: &'static str, port: u16) {
    let listener = within(netns, || Ok(TcpListener::bind(("0.0.0.0", port))?)).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, from)) = listener.accept() {
            let _ = write!(stream, "{name} {}", from.ip());
        }
    });
}

fn ask_here(server: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn ask(netns: &Path, server: (IpAddr, u16)) -> Option<String> {
    within(netns, || Ok(ask_here(server.into()).ok())).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Resolves a name as a container would, at 127.0.0.11.
fn resolve(netns: &Path, name: &str) -> (u8, Vec<IpAddr>) {
    use simple_dns::rdata::RData;
    use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, Question, TYPE};
    let mut query = Packet::new_query(77);
    query.questions.push(Question::new(
        Name::new(name).unwrap(),
        QTYPE::TYPE(TYPE::A),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    let query = query.build_bytes_vec().unwrap();
    let bytes = within(netns, || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect("127.0.0.11:53")?;
        socket.send(&query)?;
        let mut bytes = [0; 512];
        let length = socket.recv(&mut bytes)?;
        Ok(bytes[..length].to_vec())
    })
    .unwrap();
    let reply = Packet::parse(&bytes).unwrap();
    let addresses = reply
        .answers
        .iter()
        .filter_map(|record| match &record.rdata {
            RData::A(a) => Some(IpAddr::from(a.address.to_be_bytes())),
            _ => None,
        });
    (bytes[3] & 0xf, addresses.collect())
}

#[test]
fn two_containers_talk_and_leave_nothing_behind() {
    lab(|lab| {
        let before = lab.kernel();
        assert!(before.0.contains(&"skep0".to_owned()), "{before:?}");
        let (one, one_ns) = lab.attach("one", "bridge");
        let (two, two_ns) = lab.attach("two", "");
        assert_eq!(address(&one.sandbox, "bridge"), ip("172.17.0.2"));
        assert_eq!(address(&two.sandbox, "bridge"), ip("172.17.0.3"));
        assert!(!one.sandbox.resolv_conf.contains("127.0.0.1"));
        serve(&one_ns, "one", 80);
        let answer = ask(&two_ns, (address(&one.sandbox, "bridge"), 80));
        assert_eq!(answer.as_deref(), Some("one 172.17.0.3"));
        lab.core().detach(&one.attach.container);
        lab.core().detach(&two.attach.container);
        lab.core().reap(|_| true);
        assert_eq!(lab.kernel(), before);
        assert!(lab.core().folder.list().unwrap().is_empty());
        let (third, _) = lab.attach("three", "bridge");
        assert_eq!(
            address(&third.sandbox, "bridge"),
            ip("172.17.0.4"),
            "reused late"
        );
    });
}

#[test]
fn a_published_port_keeps_its_clients_address() {
    lab(|lab| {
        let neighbour = lab.neighbour();
        lab.network("front", |_| {});
        let (web, web_ns) = lab.attach_with("web", "bridge", |attach| {
            attach.ports.insert("80/tcp".into(), binding("", 8000));
            attach
                .ports
                .insert("81/tcp".into(), binding("127.0.0.1", 8001));
        });
        let (_, beside) = lab.attach("beside", "bridge");
        let (far, far_ns) = lab.attach("far", "front");
        serve(&web_ns, "web", 80);
        serve(&web_ns, "local", 81);
        let node = ip("192.0.2.1");
        assert_eq!(
            ask(&neighbour, (node, 8000)).as_deref(),
            Some("web 192.0.2.2")
        );
        let own = ask_here((node, 8000).into()).unwrap();
        assert!(own.starts_with("web "), "from the node itself: {own}");
        assert_eq!(
            ask_here("127.0.0.1:8000".parse().unwrap()).unwrap(),
            "web 172.17.0.1"
        );
        assert_eq!(
            ask_here("127.0.0.1:8001".parse().unwrap()).unwrap(),
            "local 172.17.0.1"
        );
        assert_eq!(
            ask(&neighbour, (node, 8001)),
            None,
            "bound to loopback only"
        );
        assert_eq!(
            ask(&beside, (node, 8000)).as_deref(),
            Some("web 172.17.0.1")
        );
        assert_eq!(
            ask(&web_ns, (node, 8000)).as_deref(),
            Some("web 172.17.0.1"),
            "hairpin"
        );
        let from_far = format!("web {}", address(&far.sandbox, "front"));
        assert_eq!(
            ask(&far_ns, (node, 8000)),
            Some(from_far),
            "from another bridge"
        );
        let direct = (address(&web.sandbox, "bridge"), 80);
        assert_eq!(ask(&far_ns, direct), None, "bridges are apart");
        lab.core().detach(&web.attach.container);
        assert_eq!(ask(&neighbour, (node, 8000)), None);
        assert!(
            TcpListener::bind("0.0.0.0:8000").is_ok(),
            "the port is given back"
        );
    });
}

#[test]
fn taken_ports_and_failed_starts_leave_nothing() {
    lab(|lab| {
        let (first, _) = lab.attach_with("first", "bridge", |attach| {
            attach.ports.insert("80/tcp".into(), binding("", 8000));
        });
        let before = lab.kernel();
        let mut second = wish("second", "bridge");
        second.ports.insert("80/tcp".into(), binding("", 8000));
        let refused = lab.core().attach(second).unwrap_err().message;
        assert!(
            refused.starts_with(
                "driver failed programming external connectivity on endpoint second ("
            ) && refused.ends_with("): Bind for 0.0.0.0:8000 failed: port is already allocated"),
            "{refused}"
        );
        assert_eq!(lab.kernel(), before);
        let _listener = TcpListener::bind("0.0.0.0:8002").unwrap();
        let mut third = wish("third", "bridge");
        third.ports.insert("80/tcp".into(), binding("", 8002));
        let refused = lab.core().attach(third).unwrap_err().message;
        assert!(refused.ends_with("listen tcp4 0.0.0.0:8002: bind: address already in use"));
        assert_eq!(lab.core().folder.list().unwrap(), [first.attach.container]);
        let refused = lab.core().attach(wish("x", "nowhere")).unwrap_err();
        assert_eq!(refused.message, "network nowhere not found");
    });
}

#[test]
fn names_follow_containers_and_services() {
    lab(|lab| {
        let id = lab.network("front", |_| {});
        let (one, one_ns) = lab.attach_with("one", "front", |attach| {
            let endpoint = EndpointSettings {
                aliases: vec!["uno".into()],
                ..EndpointSettings::default()
            };
            attach.endpoints.insert("front".into(), endpoint);
        });
        let (two, two_ns) = lab.attach("two", "front");
        assert!(one.sandbox.resolv_conf.contains("nameserver 127.0.0.11"));
        let wanted = vec![address(&one.sandbox, "front")];
        for name in ["one", "UNO", "one.front", &one.attach.container[..12]] {
            assert_eq!(resolve(&two_ns, name), (0, wanted.clone()), "{name}");
        }
        assert_eq!(
            resolve(&two_ns, "nobody").0,
            2,
            "no resolver of the node's: server failure"
        );
        lab.core()
            .set_routes(&service(&id, &[&one, &two], 0))
            .unwrap();
        for name in ["web", "tasks.web", "w"] {
            assert_eq!(resolve(&one_ns, name).1.len(), 2, "{name}");
        }
        lab.core().rename(&one.attach.container, "eins");
        assert_eq!(resolve(&two_ns, "eins").1, wanted);
        lab.core().detach(&one.attach.container);
        assert_eq!(resolve(&two_ns, "eins").0, 2);
    });
}

fn service(network: &str, backends: &[&Live], port: u32) -> Routes {
    let backends = backends.iter().map(|live| Backend {
        task: "t".into(),
        name: live.attach.name.clone(),
        slot: 1,
        node: "n".into(),
        container: live.attach.container.as_str().into(),
        addresses: live
            .sandbox
            .endpoints
            .values()
            .map(|endpoint| Address {
                network: endpoint.network_id.as_str().into(),
                ip: ip(&endpoint.ip_address),
                prefix_len: endpoint.ip_prefix_len,
            })
            .collect(),
    });
    let published = PortConfig {
        protocol: "tcp".into(),
        target_port: 80,
        published_port: port,
        ..PortConfig::default()
    };
    Routes {
        services: vec![ServiceRoute {
            service: "s".into(),
            name: "web".into(),
            is_dnsrr: false,
            ports: (port != 0).then_some(published).into_iter().collect(),
            names: vec![Names {
                network: network.into(),
                names: vec!["web".into(), "w".into()],
            }],
            backends: backends.collect(),
        }],
    }
}

#[test]
fn a_services_port_is_balanced_over_live_backends() {
    lab(|lab| {
        let neighbour = lab.neighbour();
        let id = lab.network("front", |_| {});
        let (one, one_ns) = lab.attach("one", "front");
        let (two, two_ns) = lab.attach("two", "front");
        serve(&one_ns, "one", 80);
        serve(&two_ns, "two", 80);
        let node = (ip("192.0.2.1"), 9000);
        let counts = || {
            let mut counts = BTreeMap::new();
            for _ in 0..40 {
                let answer = ask(&neighbour, node).unwrap();
                *counts.entry(answer).or_insert(0) += 1;
            }
            counts
        };
        lab.core()
            .set_routes(&service(&id, &[&one, &two], 9000))
            .unwrap();
        let both = counts();
        let (three, _) = lab.attach("three", "front");
        let all = service(&id, &[&one, &two, &three], 9000);
        lab.core().set_routes(&all).unwrap();
        lab.core().detach(&three.attach.container);
        assert_eq!(
            counts().len(),
            2,
            "who ended is left out before the cluster knows"
        );
        assert_eq!(
            both.keys().collect::<Vec<_>>(),
            ["one 192.0.2.2", "two 192.0.2.2"]
        );
        lab.core().set_routes(&service(&id, &[&two], 9000)).unwrap();
        assert_eq!(counts().keys().collect::<Vec<_>>(), ["two 192.0.2.2"]);
        lab.restart(&[one.clone(), two.clone()]);
        assert_eq!(counts().keys().collect::<Vec<_>>(), ["two 192.0.2.2"]);
        assert_eq!(resolve(&one_ns, "web").1, [address(&two.sandbox, "front")]);
        lab.restart(std::slice::from_ref(&one));
        assert_eq!(ask(&neighbour, node), None, "its backend did not live on");
        lab.core().set_routes(&Routes::default()).unwrap();
        assert_eq!(ask(&neighbour, node), None);
    });
}

#[test]
fn a_restarted_agent_changes_nothing_that_is_right() {
    lab(|lab| {
        let neighbour = lab.neighbour();
        lab.network("front", |_| {});
        let (web, web_ns) = lab.attach_with("web", "front", |attach| {
            attach.ports.insert("80/tcp".into(), binding("", 8000));
        });
        let (gone, _) = lab.attach("gone", "front");
        serve(&web_ns, "web", 80);
        let (_, before) = lab.kernel();
        let links = || Links::open().unwrap().found().unwrap().links;
        let mut wanted = links();
        lab.restart(std::slice::from_ref(&web));
        let veth = super::endpoint::veth_name(&gone.sandbox.endpoints["front"]);
        wanted.retain(|link| link.name != veth);
        assert_eq!(links(), wanted, "same links, same indices");
        assert_eq!(lab.kernel().1, before);
        assert_eq!(
            ask(&neighbour, (ip("192.0.2.1"), 8000)).as_deref(),
            Some("web 192.0.2.2")
        );
        assert_eq!(resolve(&web_ns, "web").1, [address(&web.sandbox, "front")]);
        assert!(TcpListener::bind("0.0.0.0:8000").is_err(), "held again");
        let (next, _) = lab.attach("next", "front");
        assert!(address(&next.sandbox, "front") > address(&web.sandbox, "front"));
        // A bridge that someone removed is made again, and its ports with it.
        let bridge = super::shape::shape(lab.core().catalog.find("front").unwrap()).bridge;
        let remove = Operation::Remove { name: bridge };
        Links::open().unwrap().apply(&[remove]).unwrap();
        lab.restart(std::slice::from_ref(&web));
        assert_eq!(
            ask(&neighbour, (ip("192.0.2.1"), 8000)).as_deref(),
            Some("web 192.0.2.2")
        );
    });
}

#[test]
fn internal_networks_and_isolated_containers_keep_to_themselves() {
    lab(|lab| {
        let neighbour = lab.neighbour();
        serve(&neighbour, "outside", 80);
        lab.network("inner", |spec| spec.internal = true);
        lab.network("quiet", |spec| {
            let icc = super::shape::option::ICC.to_owned();
            spec.options.insert(icc, "false".into());
        });
        let (one, one_ns) = lab.attach("one", "inner");
        let (_, two_ns) = lab.attach("two", "inner");
        let (three, three_ns) = lab.attach("three", "quiet");
        let (_, four_ns) = lab.attach("four", "quiet");
        serve(&one_ns, "one", 80);
        serve(&three_ns, "three", 80);
        let outside = (ip("192.0.2.2"), 80);
        assert!(ask(&two_ns, (address(&one.sandbox, "inner"), 80)).is_some());
        assert_eq!(ask(&one_ns, outside), None, "no way out");
        let through = ask(&three_ns, outside);
        assert_eq!(through.as_deref(), Some("outside 192.0.2.1"), "masqueraded");
        assert_eq!(ask(&four_ns, (address(&three.sandbox, "quiet"), 80)), None);
    });
}

#[test]
fn a_running_container_joins_and_leaves_networks() {
    lab(|lab| {
        lab.network("front", |_| {});
        lab.network("back", |spec| {
            spec.ipam.config = vec![IpamConfig {
                subnet: "10.77.0.0/24".into(),
                ..IpamConfig::default()
            }];
        });
        let (web, web_ns) = lab.attach("web", "front");
        let (db, db_ns) = lab.attach("db", "back");
        serve(&db_ns, "db", 80);
        let there = (address(&db.sandbox, "back"), 80);
        assert_eq!(ask(&web_ns, there), None);
        let wish = EndpointSettings {
            ipam_config: Some(EndpointIpamConfig {
                ipv4_address: "10.77.0.99".into(),
                ..EndpointIpamConfig::default()
            }),
            ..EndpointSettings::default()
        };
        let container = web.attach.container.clone();
        let joined = lab.core().connect("back", &container, &wish).unwrap();
        assert_eq!(address(&joined, "back"), ip("10.77.0.99"));
        assert_eq!(ask(&web_ns, there).as_deref(), Some("db 10.77.0.99"));
        assert_eq!(resolve(&web_ns, "db").1, [there.0]);
        assert!(lab.core().connect("back", &container, &wish).is_err());
        let refused = lab.core().remove("back").unwrap_err().message;
        assert!(
            refused.contains("network back has active endpoints"),
            "{refused}"
        );
        // The default route moves on when its network goes.
        lab.core().disconnect("front", &container).unwrap();
        let left = lab.core().disconnect("front", &container).unwrap_err();
        assert!(
            left.message
                .contains("is not connected to the network front")
        );
        let neighbour = lab.neighbour();
        serve(&neighbour, "outside", 80);
        let outside = ask(&web_ns, (ip("192.0.2.2"), 80));
        assert_eq!(outside.as_deref(), Some("outside 192.0.2.1"));
        lab.core().detach(&container);
        lab.core().detach(&db.attach.container);
        lab.core().remove("back").unwrap();
        lab.core().remove("front").unwrap();
        assert_eq!(
            lab.core().remove("bridge").unwrap_err().message,
            "bridge is a pre-defined network and cannot be removed"
        );
    });
}

#[test]
fn ipv6_is_there_when_asked_for() {
    lab(|lab| {
        lab.network("six", |spec| {
            spec.enable_ipv6 = Some(true);
            spec.ipam.config = vec![IpamConfig {
                subnet: "fd00:5::/64".into(),
                ..IpamConfig::default()
            }];
        });
        let (one, one_ns) = lab.attach("one", "six");
        let (_, two_ns) = lab.attach("two", "six");
        let v6 = one.sandbox.endpoints["six"].global_ipv6_address.clone();
        assert_eq!(v6, "fd00:5::2");
        let listener = within(&one_ns, || Ok(TcpListener::bind("[::]:80")?)).unwrap();
        std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let _ = stream.write_all(b"six");
        });
        assert_eq!(ask(&two_ns, (ip(&v6), 80)).as_deref(), Some("six"));
    });
}

#[test]
fn modes_host_none_and_container_share_what_they_say() {
    lab(|lab| {
        let host = lab.core().attach(wish("host", "host")).unwrap();
        assert_eq!(host.netns, None);
        assert!(host.endpoints["host"].ip_address.is_empty());
        let (none, none_ns) = lab.attach("none", "none");
        let found = within(&none_ns, || Links::open()?.found()).unwrap();
        assert!(
            found
                .links
                .iter()
                .all(|link| link.name == "lo" || !link.is_up)
        );
        assert!(none.sandbox.endpoints.contains_key("none"));
        let (web, web_ns) = lab.attach("web", "bridge");
        let with = format!("container:{}", web.attach.container);
        let shared = lab.core().attach(wish("side", &with)).unwrap();
        assert_eq!(shared.netns, Some(web_ns));
        let gone = wish("lost", "container:feed");
        assert!(lab.core().attach(gone).is_err());
    });
}
