//! A node that moves to another network says so.

use super::place::Place;
use super::{Swarm, lock};
use crate::error::Result;
use crate::identity::Membership;
use skep_control::engine::Input;
use std::time::Duration;

/// Between two looks at the machine's addresses: one system call, some ten
/// microseconds.
const LOOK_EVERY: Duration = Duration::from_secs(5);

impl Swarm {
    /// Runs as long as the agent does.
    pub(super) async fn follow_address(self) {
        loop {
            smol::Timer::after(LOOK_EVERY).await;
            let place = lock(&self.0.place).clone();
            let Some(moved) = place.and_then(|place| place.moved()) else {
                continue;
            };
            let addr = moved.addr;
            match self.relocate(moved).await {
                Ok(()) => log::info!("others reach this node at {addr} from now on"),
                Err(error) => log::error!("this node moved to {addr}: {error}"),
            }
        }
    }

    async fn relocate(&self, place: Place) -> Result<()> {
        let _turn = self.0.turn.lock().await;
        let addr = place.addr;
        if let Some(member) = self.member() {
            self.keep_place(place).await?;
            self.enter(Membership { addr, ..member }).await?;
            self.tell(Input::Moved(addr)).await;
        }
        Ok(())
    }

    /// Where a member is, also one whose place was not kept.
    pub(super) fn place_of_member(&self, member: &Membership) -> Place {
        let mut place = lock(&self.0.place);
        place
            .get_or_insert_with(|| Place::at(self.0.flags.listen, member.addr))
            .clone()
    }
}
