//! Several nodes as one swarm: how they come together, and what they keep up.

use skep_tests::{Board, Cluster, until};

#[test]
fn a_cut_board_is_deaf_one_way_only() {
    let cluster = Cluster::apart(2);
    let (one, other) = (&cluster[0], &cluster[1]);
    // Nobody listens there: the refusal is the echo.
    let ping = |from: &Board, to: &Board| {
        let url = format!("http://{}:9/", to.address());
        from.run(&["curl", "-sS", "--max-time", "1", &url]).code == 7
    };
    until("they see each other", || ping(one, other).then_some(()));
    one.turn_deaf_to(other);
    assert!(!ping(one, other), "the answer is not heard");
    one.hear_all();
    assert!(ping(one, other));
    other.pull_cable();
    assert!(!ping(one, other));
    other.plug_cable();
    until("they see each other again", || {
        ping(one, other).then_some(())
    });
}
