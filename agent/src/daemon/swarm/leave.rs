//! Parting: for good, or until the agent is started again.

use super::place::Place;
use super::{Swarm, lock};
use crate::error::Result;
use skep_control::engine::{Answer, Input, Request};
use std::time::Duration;

/// For the last words to be on their way before the port closes.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// A leader hands over in a few round trips and one write of two disks; who
/// waits longer finds nobody to hand over to.
const HANDOVER: Duration = Duration::from_secs(1);
/// Between two looks at whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl Swarm {
    /// Leaves the swarm, or ends a join that is under way.
    pub(in super::super) async fn leave(&self, force: bool) -> Result<Answer> {
        if self.cancel_join().await {
            return Ok(Answer::Done);
        }
        *lock(&self.0.joining) = Default::default();
        let _turn = self.0.turn.lock().await;
        let answer = self.0.spine.request(Request::SwarmLeave { force }).await?;
        // The engine has forgotten the cluster and says good-bye.
        smol::Timer::after(LAST_WORDS).await;
        let swarm = self.clone();
        smol::unblock(move || {
            let left = lock(&swarm.0.identity).leave();
            Place::forget(&swarm.0.flags.data_dir);
            left
        })
        .await?;
        *lock(&self.0.place) = None;
        *lock(&self.0.trust) = None;
        *lock(&self.0.trouble) = None;
        self.close().await;
        log::info!("this node left its swarm");
        Ok(answer)
    }

    /// The agent ends, and its containers run on: a leader hands over first.
    pub(in super::super) async fn hand_over(&self) {
        if self.transport().is_none() {
            return;
        }
        self.tell(Input::Stopping).await;
        let handed_over = async {
            let leads = || {
                self.0
                    .spine
                    .view(|view| view.is_leader() && view.managers().len() > 1)
            };
            while leads().await {
                smol::Timer::after(LOOK_EVERY).await;
            }
        };
        smol::future::or(handed_over, async {
            smol::Timer::after(HANDOVER).await;
        })
        .await;
    }
}
