//! swarmkit's scheduler, retold: which node, and why none.

use super::*;

#[test]
fn what_does_not_fit_waits_and_says_why() {
    type Ask = Box<dyn Fn(&mut ServiceSpec)>;
    let table: Vec<(Ask, &str)> = vec![
        (
            Box::new(move |spec| {
                spec.task_template.placement =
                    place(|of| of.constraints.push("node.role==manager".into()));
            }),
            "no suitable node (scheduling constraints not satisfied on 2 nodes)",
        ),
        (
            Box::new(move |spec| {
                spec.task_template.resources = reserve(|of| of.nano_cpus = 5 * SECOND)
            }),
            "no suitable node (insufficient resources on 2 nodes)",
        ),
        (
            Box::new(move |spec| {
                spec.task_template.resources = reserve(|of| of.memory_bytes = 2 << 30)
            }),
            "no suitable node (insufficient resources on 2 nodes)",
        ),
        (
            Box::new(move |spec| {
                spec.task_template.placement = place(|of| {
                    of.platforms.push(Platform {
                        architecture: "amd64".into(),
                        os: "linux".into(),
                    });
                });
            }),
            "no suitable node (unsupported platform on 2 nodes)",
        ),
        (
            Box::new(move |spec| {
                spec.mode.replicated = Some(ReplicatedService { replicas: Some(3) });
                spec.task_template.placement = place(|of| of.max_replicas = 1);
            }),
            "no suitable node (max replicas per node limit exceed)",
        ),
    ];
    for (ask, wanted) in table {
        let mut stage = Stage::new(2);
        stage.create("web", 1, |spec| ask(spec));
        stage.settle();
        assert_eq!(stage.why(), wanted);
    }
    let mut stage = Stage::new(1);
    stage.node(1, |node| node.spec.availability = Availability::Pause);
    stage.create("web", 1, |_| {});
    stage.settle();
    let wanted = "no suitable node (1 node not available for new tasks)";
    assert_eq!(stage.why(), wanted);
    stage.node(1, |node| node.spec.availability = Availability::Active);
    stage.settle();
    assert_eq!(stage.why(), "");
    assert_eq!(stage.per_node("web"), [1]);
}

#[test]
fn a_host_port_is_held_once_on_each_node() {
    let mut stage = Stage::new(2);
    stage.create("web", 3, |_| {});
    stage.publish("web", vec![host_port(8080)]);
    stage.settle();
    assert_eq!(stage.per_node("web"), [1, 1]);
    let wanted = "no suitable node (host-mode port already in use on 2 nodes)";
    assert_eq!(stage.why(), wanted);
}

#[test]
fn every_filter_counts_the_nodes_it_rules_out() {
    let mut stage = Stage::new(6);
    stage.node(1, |node| node.spec.availability = Availability::Drain);
    stage.reach(2, Reach::Down);
    stage.node(3, |node| node.description.resources.memory_bytes = 1);
    stage.node(4, |node| {
        node.description.platform.architecture = "x86_64".into();
    });
    for number in 3..=6 {
        stage.label(number, "ssd", "yes");
    }
    stage.node(6, |node| node.spec.labels.clear());
    stage.create("holder", 1, |spec| {
        spec.task_template.placement = place(|of| of.constraints.push("node.id==n0005".into()));
    });
    stage.publish("holder", vec![host_port(80)]);
    stage.settle();
    stage.create("web", 1, |spec| {
        spec.task_template.resources = reserve(|of| of.memory_bytes = 1 << 20);
        spec.task_template.placement = place(|of| {
            of.constraints.push("node.labels.ssd==yes".into());
            of.platforms.push(Platform {
                architecture: "arm64".into(),
                os: String::new(),
            });
        });
    });
    stage.publish("web", vec![host_port(80)]);
    stage.settle();
    let wanted = "no suitable node (2 nodes not available for new tasks; \
                  insufficient resources on 1 node; \
                  scheduling constraints not satisfied on 1 node; \
                  unsupported platform on 1 node; \
                  host-mode port already in use on 1 node)";
    assert_eq!(stage.why(), wanted);
    stage.label(6, "ssd", "yes");
    stage.settle();
    assert_eq!(stage.on("web", 6), 1);
}

#[test]
fn reservations_are_kept_even_of_what_only_stops() {
    let mut stage = Stage::new(1);
    let half = |spec: &mut ServiceSpec| {
        spec.task_template.resources = reserve(|of| of.nano_cpus = 2 * SECOND);
    };
    stage.create("one", 2, half);
    stage.settle();
    stage.create("two", 1, half);
    stage.settle();
    assert_eq!(stage.per_node("two"), [] as [usize; 0]);
    stage.update("one", |spec| spec.mode = replicas(1));
    stage.plan();
    assert_eq!(
        stage.per_node("two"),
        [] as [usize; 0],
        "it has not stopped yet"
    );
    stage.settle();
    assert_eq!(stage.per_node("two"), [1]);
}

#[test]
fn a_task_that_waits_for_its_restart_keeps_its_place() {
    let mut stage = Stage::new(1);
    let all = |spec: &mut ServiceSpec| {
        spec.task_template.resources = reserve(|of| of.nano_cpus = 4 * SECOND);
    };
    stage.create("one", 1, all);
    stage.settle();
    stage.fail("one", 1, 1);
    stage.create("two", 1, all);
    stage.plan();
    assert_eq!(stage.per_node("two"), [] as [usize; 0]);
}

#[test]
fn generic_resources_are_counted_or_handed_out_by_name() {
    let mut stage = Stage::new(2);
    stage.node(1, |node| {
        let all = &mut node.description.resources.generic_resources;
        all.extend(["a", "b", "c"].map(|name| named("gpu", name)));
        all.push(counted("slot", 3));
    });
    stage.create("web", 3, |spec| {
        spec.task_template.resources = reserve(|of| {
            of.generic_resources = vec![counted("gpu", 1), counted("slot", 1)];
        });
    });
    stage.settle();
    assert_eq!(stage.per_node("web"), [3]);
    let mut names: Vec<String> = Vec::new();
    for assignment in stage.live("web") {
        let claims = &assignment.generic_resources;
        assert!(claims.contains(&counted("slot", 1)));
        let named = claims
            .iter()
            .filter_map(|of| of.named_resource_spec.as_ref());
        names.extend(named.map(|of| of.value.clone()));
    }
    names.sort();
    assert_eq!(names, ["a", "b", "c"]);
    stage.update("web", |spec| spec.mode = replicas(4));
    stage.settle();
    let wanted = "no suitable node (insufficient resources on 2 nodes)";
    assert_eq!(stage.why(), wanted);
    // What one gives back another gets.
    stage.update("web", |spec| spec.mode = replicas(2));
    stage.settle();
    stage.create("more", 1, |spec| {
        spec.task_template.resources = reserve(|of| {
            of.generic_resources = vec![counted("gpu", 1)];
        });
    });
    stage.settle();
    assert_eq!(stage.on("more", 1), 1);
}

#[test]
fn a_global_service_goes_where_there_is_room() {
    let mut stage = Stage::new(3);
    stage.node(1, |node| node.description.resources.nano_cpus = SECOND);
    stage.create("agent", 0, |spec| {
        global(spec);
        spec.task_template.resources = reserve(|of| of.nano_cpus = 2 * SECOND);
    });
    stage.publish("agent", vec![host_port(9100)]);
    stage.settle();
    assert_eq!(stage.on("agent", 1), 0);
    assert_eq!(stage.per_node("agent"), [1, 1]);
    // A node that can hold only one at a time gets the new in place of the old.
    stage.update("agent", |spec| {
        spec.update_config = config(|of| {
            of.order = "start-first".into();
            of.parallelism = 0;
        });
        spec.task_template.container_spec.image = "two".into();
    });
    stage.plan();
    let ready = |of: &&Assignment| of.desired == TaskState::Ready;
    assert_eq!(stage.live("agent").into_iter().filter(ready).count(), 2);
    stage.settle();
    assert_eq!(stage.images("agent"), BTreeMap::from([("two".into(), 2)]));
    stage.node(1, |node| node.description.resources.nano_cpus = 2 * SECOND);
    stage.settle();
    assert_eq!(stage.on("agent", 1), 1);
}

#[test]
fn no_node_gets_more_replicas_than_it_may() {
    let mut stage = Stage::new(3);
    stage.create("web", 7, |spec| {
        spec.task_template.placement = place(|of| of.max_replicas = 2);
    });
    stage.settle();
    assert_eq!(stage.per_node("web"), [2, 2, 2]);
    assert_eq!(stage.pending.len(), 1);
    stage.join(4);
    stage.settle();
    assert_eq!(stage.per_node("web"), [2, 2, 2, 1]);
}

#[test]
fn a_node_where_a_service_keeps_failing_comes_last() {
    let mut stage = Stage::new(3);
    stage.create("web", 3, |_| {});
    stage.settle();
    stage.fail("web", 1, 5);
    stage.update("web", |spec| spec.mode = replicas(6));
    stage.plan();
    assert!(stage.on("web", 1) <= 1, "no new one goes there");
    // Other services do not mind, nor does another revision, nor time.
    stage.create("other", 3, |_| {});
    stage.settle();
    assert_eq!(stage.per_node("other"), [1, 1, 1]);
    stage.now = stage.now.plus(300_001);
    stage.update("web", |spec| spec.mode = replicas(9));
    stage.settle();
    assert_eq!(stage.per_node("web"), [3, 3, 3]);
}

#[test]
fn tasks_spread_over_nested_labels_and_around_full_branches() {
    let mut stage = Stage::new(6);
    let places = [
        ("a", "1"),
        ("a", "2"),
        ("a", "2"),
        ("b", "1"),
        ("b", "1"),
        ("", ""),
    ];
    for (number, (zone, rack)) in (1..).zip(places) {
        if !zone.is_empty() {
            stage.label(number, "zone", zone);
            stage.label(number, "rack", rack);
        }
    }
    stage.create("web", 12, |spec| {
        spec.task_template.placement = spread(&["zone", "rack"]);
    });
    stage.settle();
    let of = |stage: &Stage, numbers: &[usize]| -> usize {
        numbers.iter().map(|number| stage.on("web", *number)).sum()
    };
    // The nodes without the label are a branch of their own.
    assert_eq!(of(&stage, &[6]), 4);
    assert_eq!(of(&stage, &[1]), 2);
    assert_eq!(of(&stage, &[2, 3]), 2);
    assert_eq!(of(&stage, &[4, 5]), 4);
    // A branch that has no more room leaves the rest to the others.
    let mut stage = Stage::new(3);
    stage.label(1, "zone", "a");
    stage.label(2, "zone", "b");
    stage.label(3, "zone", "b");
    stage.node(1, |node| node.description.resources.nano_cpus = SECOND);
    stage.create("web", 7, |spec| {
        spec.task_template.placement = spread(&["zone"]);
        spec.task_template.resources = reserve(|of| of.nano_cpus = SECOND);
    });
    stage.settle();
    assert_eq!(stage.on("web", 1), 1);
    assert_eq!(of(&stage, &[2, 3]), 6);
    assert_eq!(stage.on("web", 2), 3);
}

#[test]
fn tasks_spread_over_the_values_of_a_label() {
    let mut stage = Stage::new(3);
    for (number, rack) in [(1, "a"), (2, "a"), (3, "b")] {
        stage.node(number, |node| {
            node.spec.labels.insert("rack".into(), rack.into());
        });
    }
    stage.create("web", 4, |spec| {
        spec.task_template.placement = Some(Placement {
            preferences: vec![PlacementPreference {
                spread: Some(SpreadOver {
                    spread_descriptor: "node.labels.rack".into(),
                }),
            }],
            ..Placement::default()
        });
    });
    stage.settle();
    assert_eq!(stage.per_node("web"), [1, 1, 2]);
}
