//! What holds of any world.

use super::*;

#[test]
fn any_mixture_comes_to_rest() {
    let mut random = Random::new([3; 32]);
    for _ in 0..30 {
        let mut stage = Stage::new(1 + random.below(5));
        for number in 0..1 + random.below(4) {
            let replicas = random.below(6) as u64;
            let is_global = random.below(4) == 0;
            let parallelism = random.below(3) as u64;
            stage.create(&format!("s{number}"), replicas, |spec| {
                if is_global {
                    spec.mode = ServiceMode {
                        global: Some(Empty {}),
                        ..ServiceMode::default()
                    };
                }
                spec.update_config = config(|of| of.parallelism = parallelism);
            });
        }
        for _ in 0..12 {
            let names: Vec<String> = stage
                .state
                .services()
                .map(|of| of.spec.name.clone())
                .collect();
            let nodes = stage.state.nodes().count();
            let number = 1 + random.below(nodes);
            match (random.below(5), names.get(random.below(names.len()))) {
                (0, _) => stage.node(number, |node| {
                    node.spec.availability = Availability::Drain;
                }),
                (1, _) => stage.node(number, |node| {
                    node.spec.availability = Availability::Active;
                }),
                (2, Some(name)) => {
                    let image = ["one", "two", "bad"][random.below(3)];
                    stage.update(name, |spec| {
                        spec.task_template.container_spec.image = image.into();
                    });
                }
                (3, Some(name)) => stage.apply(vec![Change::RemoveService(name.as_str().into())]),
                _ => stage.join(nodes + 1),
            }
            // `plan` asserts that a planned world needs no plan.
            stage.plan();
            if random.below(2) == 0 {
                stage.obey();
            }
            stage.now = stage.now.plus(random.below(7000) as u64);
        }
    }
}

/// The budget's size, and no time: it must not be quadratic in anything.
#[test]
#[ignore = "takes seconds without optimisation"]
fn a_hundred_thousand_tasks_on_five_thousand_nodes() {
    let mut stage = Stage::new(5000);
    for number in 0..100 {
        stage.create(&format!("s{number}"), 1000, |_| {});
    }
    stage.plan();
    assert_eq!(stage.state.assignments().count(), 100_000);
    let most = stage
        .state
        .nodes()
        .map(|node| stage.state.assignments_on(&node.id).count())
        .max();
    assert_eq!(most, Some(20));
}
