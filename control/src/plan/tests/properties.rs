//! What holds of any world.

use super::*;

/// A number of nodes, unlike each other.
fn any_nodes(random: &mut Random) -> Stage {
    let count = 1 + random.below(8);
    let mut stage = Stage::new(count);
    for number in 1..=count {
        let zone = ["a", "b", "c"][random.below(3)];
        let cpus = 1 + random.below(4) as i64;
        let gpus = random.below(4);
        stage.node(number, |node| {
            node.spec.labels.insert("zone".into(), zone.into());
            let resources = &mut node.description.resources;
            resources.nano_cpus = cpus * SECOND;
            for name in ["x", "y", "z"].iter().take(gpus) {
                resources.generic_resources.push(named("gpu", name));
            }
        });
    }
    stage
}

fn any_task(random: &mut Random, spec: &mut ServiceSpec) {
    if random.below(2) == 0 {
        let (cpus, gpus) = (random.below(3) as i64, random.below(2) as i64);
        spec.task_template.resources = reserve(|of| {
            of.nano_cpus = cpus * SECOND / 2;
            if gpus > 0 {
                of.generic_resources.push(counted("gpu", gpus));
            }
        });
    }
    let mut placement = match random.below(3) {
        0 => spread(&["zone"]),
        _ => place(|_| {}),
    };
    if let Some(of) = &mut placement {
        of.max_replicas = random.below(4) as u64;
        if random.below(4) == 0 {
            of.constraints.push("node.labels.zone != c".into());
        }
    }
    spec.task_template.placement = placement;
    let order = ["start-first", "stop-first"][random.below(2)];
    let parallelism = random.below(3) as u64;
    let chosen = config(|of| {
        of.order = order.into();
        of.parallelism = parallelism;
    });
    // Chosen once: what was begun start-first overlaps.
    spec.update_config = spec.update_config.take().or(chosen);
}

fn any_service(random: &mut Random, stage: &mut Stage, name: &str) {
    let replicas = random.below(9) as u64;
    let is_global = random.below(5) == 0;
    let publishes = random.below(6) == 0;
    let is_balanced = random.below(3) == 0;
    stage.create(name, replicas, |spec| {
        any_task(random, spec);
        if is_global {
            global(spec);
        }
        if is_balanced {
            spec.labels.insert("skep.rebalance".into(), "true".into());
        }
    });
    if publishes {
        stage.publish(name, vec![host_port(80)]);
    }
}

/// Something happens to somebody.
fn any_event(random: &mut Random, stage: &mut Stage) {
    let names: Vec<String> = stage
        .state
        .services()
        .map(|of| of.spec.name.clone())
        .collect();
    let nodes = stage.state.nodes().count();
    let number = 1 + random.below(nodes);
    let Some(name) = names.get(random.below(names.len())).cloned() else {
        return any_service(random, stage, "s9");
    };
    match random.below(10) {
        0 => stage.drain(&[number]),
        1 | 2 => stage.node(number, |node| node.spec.availability = Availability::Active),
        3 => stage.reach(number, Reach::Down),
        4 => stage.reach(number, Reach::Up),
        5 => {
            let image = ["one", "two", "bad"][random.below(3)];
            stage.update(&name, |spec| {
                spec.task_template.container_spec.image = image.into();
                any_task(random, spec);
            });
        }
        6 => stage.apply(vec![Change::RemoveService(name.as_str().into())]),
        7 => stage.fail(&name, number, 1 + random.below(6) as u32),
        8 => {
            let count = random.below(9) as u64;
            stage.update(&name, |spec| {
                if !spec.mode.is_global() {
                    spec.mode = replicas(count);
                }
            });
        }
        _ => stage.join(nodes + 1),
    }
}

/// What is taken of one node.
#[derive(Default)]
struct Taken {
    nano_cpus: i64,
    ports: Vec<u32>,
    gpus: Vec<String>,
    of_service: BTreeMap<ServiceId, u64>,
}

/// Adds up what is promised, in the plainest way. Of a slot on one node only
/// one task holds anything at a time: the next waits for the one before.
fn taken(stage: &Stage, node: &NodeId) -> Taken {
    let mut taken = Taken::default();
    let mut slots = BTreeSet::new();
    for assignment in stage.state.assignments_on(node) {
        let seen = stage.seen.get(&assignment.id);
        let is_over = seen.map_or(!assignment.is_live(), |seen| seen.state().is_terminal());
        let is_coming = assignment.is_live() && !seen.is_some_and(|seen| seen.is_exhausted);
        let waits = assignment.desired == TaskState::Ready;
        if is_over && !is_coming {
            continue;
        }
        if assignment.is_live() {
            *taken
                .of_service
                .entry(assignment.service.clone())
                .or_default() += 1;
        }
        let is_first = slots.insert((assignment.service.clone(), assignment.slot));
        if assignment.slot == 0 && (waits || !is_first) {
            continue;
        }
        let revision = stage
            .state
            .revision(&assignment.service, assignment.revision)
            .unwrap();
        let resources = revision.task.resources.as_ref();
        let reserved = resources.and_then(|of| of.reservations.as_ref());
        taken.nano_cpus += reserved.map_or(0, |of| of.nano_cpus);
        taken
            .ports
            .extend(revision.ports.iter().map(|port| port.published_port));
        let claims = assignment.generic_resources.iter();
        let named = claims.filter_map(|of| of.named_resource_spec.as_ref());
        taken.gpus.extend(named.map(|of| of.value.clone()));
    }
    taken
}

fn check(stage: &Stage) {
    for node in stage.state.nodes() {
        if stage.reaches.of(&node.id) != Reach::Up {
            continue;
        }
        let taken = taken(stage, &node.id);
        let free = node.description.resources.nano_cpus - taken.nano_cpus;
        assert!(free >= 0, "{} is promised beyond what it has", node.id);
        let unique = |all: &[String]| all.iter().collect::<BTreeSet<_>>().len();
        assert_eq!(unique(&taken.gpus), taken.gpus.len(), "handed out twice");
        let ports: BTreeSet<&u32> = taken.ports.iter().collect();
        assert_eq!(ports.len(), taken.ports.len(), "a port is taken twice");
        for (id, count) in taken.of_service {
            let service = stage.state.service(&id);
            let task = service.map(|of| &of.spec.task_template);
            let placement = task.and_then(|task| task.placement.as_ref());
            let most = placement.map_or(0, |of| of.max_replicas);
            let is_same =
                |of: &&Assignment| service.is_some_and(|service| of.revision == service.revision);
            let own = stage.state.assignments_on(&node.id);
            let mut own = own.filter(|of| of.service == id && of.is_live());
            let all_same = own.all(|of| is_same(&of));
            assert!(most == 0 || !all_same || count <= most, "too many replicas");
        }
    }
    for service in stage.state.services() {
        let mut running: BTreeMap<(u64, Option<&NodeId>), usize> = BTreeMap::new();
        for assignment in stage.state.assignments_of(&service.id) {
            let node = assignment.node.as_ref();
            let is_excused = stage.lost.contains(&assignment.id);
            let is_running = stage
                .seen
                .get(&assignment.id)
                .is_some_and(|seen| seen.is_running());
            if is_running && !is_excused {
                let node = node.filter(|_| assignment.slot == 0);
                *running.entry((assignment.slot, node)).or_default() += 1;
            }
        }
        let order = service.spec.update_config.as_ref();
        let is_overlapping = order.is_some_and(|of| of.order == "start-first")
            || service.spec.labels.contains_key("skep.rebalance");
        for (slot, count) in running {
            assert!(
                count == 1 || is_overlapping && count <= 2,
                "{slot:?} runs twice"
            );
        }
    }
}

#[test]
fn any_mixture_comes_to_rest_and_promises_nothing_twice() {
    for seed in 0..60 {
        let mut random = Random::new([seed; 32]);
        let mut stage = any_nodes(&mut random);
        for number in 0..1 + random.below(4) {
            any_service(&mut random, &mut stage, &format!("s{number}"));
        }
        for _ in 0..25 {
            any_event(&mut random, &mut stage);
            // `plan` asserts that a planned world needs no plan.
            stage.plan();
            if random.below(2) == 0 {
                stage.obey();
            }
            check(&stage);
            stage.now = stage.now.plus(random.below(9_000) as u64);
        }
    }
}

/// Every slot of every service has one task on a node that may have it, or a
/// reason why not.
#[test]
fn every_target_is_met_once_faults_stop() {
    for seed in 0..40 {
        let mut random = Random::new([seed; 32]);
        let mut stage = any_nodes(&mut random);
        for number in 0..1 + random.below(3) {
            any_service(&mut random, &mut stage, &format!("s{number}"));
        }
        for _ in 0..10 {
            any_event(&mut random, &mut stage);
            stage.plan();
            stage.obey();
        }
        for number in 1..=stage.state.nodes().count() {
            stage.reach(number, Reach::Up);
        }
        let names: Vec<ServiceId> = stage.state.services().map(|of| of.id.clone()).collect();
        for name in &names {
            stage.update(name.as_str(), |spec| {
                spec.task_template.container_spec.image = "good".into();
            });
        }
        for _ in 0..60 {
            stage.settle();
            stage.now = stage.now.plus(20_000);
        }
        for name in names {
            let service = stage.state.service(&name).unwrap();
            let wanted = service.spec.mode.replicas();
            let live = stage.live(name.as_str());
            let mut slots: Vec<u64> = live.iter().map(|of| of.slot).collect();
            slots.sort_unstable();
            slots.dedup();
            if !service.spec.mode.is_global() {
                assert_eq!(slots.len() as u64, wanted, "seed {seed}");
            }
            for assignment in live {
                let is_running = |seen: &Seen| seen.is_running();
                let runs = stage.seen.get(&assignment.id).is_some_and(is_running);
                // One that waits holds up the update of the others.
                let is_explained = is_pending(&stage, name.as_str());
                assert!(runs || is_explained, "seed {seed}: {assignment:?}");
            }
        }
        check(&stage);
    }
}

#[test]
fn replicas_differ_by_at_most_one_where_there_is_room() {
    for seed in 0..60 {
        let mut random = Random::new([seed; 32]);
        let mut stage = any_nodes(&mut random);
        for number in 0..4 {
            let name = format!("s{number}");
            any_service(&mut random, &mut stage, &name);
            stage.settle();
            let service = stage.service(&name);
            let placement = service.spec.task_template.placement.clone();
            if service.spec.mode.is_global()
                || placement.is_some_and(|of| !of.preferences.is_empty())
            {
                continue;
            }
            assert_even(&stage, &name, seed);
        }
    }
}

/// No node that could take one more has two fewer than another.
fn assert_even(stage: &Stage, name: &str, seed: u8) {
    let world = stage.world();
    let mut loads = Loads::measure(world, |_| true);
    let service = loads.service(&name.into());
    let probe = Assignment {
        service: name.into(),
        revision: stage.service(name).revision,
        ..Assignment::default()
    };
    let requirement = loads.requirement(service, &probe);
    let counts: Vec<u64> = loads
        .nodes
        .iter()
        .map(|of| of.of_service(service))
        .collect();
    let most = counts.iter().max().copied().unwrap_or(0);
    let has_room = |place: usize| loads.miss(place, service, &requirement).is_none();
    let with_room = (0..counts.len()).filter(|place| has_room(*place));
    for place in with_room {
        assert!(counts[place] + 1 >= most, "seed {seed}: {name} {counts:?}");
        assert!(stage.pending.is_empty() || !is_pending(stage, name));
    }
}

fn is_pending(stage: &Stage, name: &str) -> bool {
    let live = stage.live(name);
    live.iter().any(|of| stage.pending.contains_key(&of.id))
}
