//! The first words any client says.

use skep_tests::{Board, Client};

#[test]
fn both_clients_reach_the_node() {
    let board = Board::start("one");
    for client in Client::BOTH {
        let version = board.client(client, &["version", "--format", "{{.Server.APIVersion}}"]);
        assert_eq!(version.ok(), "1.51", "{version}");
    }
}
