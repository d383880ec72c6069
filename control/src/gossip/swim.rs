//! Who lives: the SWIM library, its timers and its datagrams.
//!
//! **Invariant:** idle, it sends a probe every [`PROBE_EVERY`] and answers those of
//! others; everything else follows a change. Lost time of this process is
//! nobody else's fault: a late wake moves every deadline. It knows no records.

use super::identity::{Code, Identity};
use crate::model::{Millis, NodeId};
use crate::random::Random;
use crate::wire::{Contact, DATAGRAM_MAX};
use foca::{
    AccumulatingRuntime, Codec, Config, Foca, Member, Message, NoCustomBroadcast,
    OwnedNotification, PostcardCodec, State, Timer,
};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

/// Every member probes another so often.
const PROBE_EVERY: Duration = Duration::from_millis(750);
/// Who has not answered by then is asked through others.
const PROBE_RTT: Duration = Duration::from_millis(300);
/// Through so many; also the fan-out of news.
const INDIRECT: NonZeroUsize = NonZeroUsize::new(3).unwrap();
/// A suspect has so long to object in a cluster of five, in ms, ...
const SUSPICION_MS: f64 = 1500.0;
/// ... and so much longer in one ten times as large, for news travel longer.
const SUSPICION_DECADE_MS: f64 = 500.0;
/// The dead are remembered for so long, lest old news bring them back.
const REMEMBER_DOWN: Duration = Duration::from_secs(24 * 60 * 60);
/// While there are news about members they are passed on so often, in ms.
const SPREAD_EVERY: u64 = 100;
/// A wake that is later than this, in ms, says that the process stood still.
const LATE_MAX: u64 = 150;
/// The version of datagrams; their first byte.
const VERSION: u8 = 1;

/// What a datagram says, beside what the library makes of it.
pub(super) struct Parcel {
    pub src: Identity,
    pub members: Vec<Member<Identity>>,
}

/// What came of it all.
#[derive(Default)]
pub(super) struct Said {
    pub datagrams: Vec<(Contact, Vec<u8>)>,
    pub notes: Vec<OwnedNotification<Identity>>,
}

pub(super) struct Swim {
    foca: Foca<Identity, PostcardCodec, Dice, NoCustomBroadcast>,
    runtime: AccumulatingRuntime<Identity>,
    /// By due time and the order in which they were set.
    timers: BTreeMap<(Millis, u64), Timer<Identity>>,
    set: u64,
    spread_at: Option<Millis>,
    /// What the configuration in use was made for.
    sized_for: usize,
    said: Said,
}

impl Swim {
    pub(super) fn new(me: Identity, random: Random) -> Self {
        Self {
            foca: Foca::new(me, config(1), Dice(random), PostcardCodec),
            runtime: AccumulatingRuntime::new(),
            timers: BTreeMap::new(),
            set: 0,
            spread_at: None,
            sized_for: 1,
            said: Said::default(),
        }
    }

    /// Reads a datagram without doing anything about it.
    pub(super) fn read(bytes: &[u8]) -> Option<Parcel> {
        let (&version, mut rest) = bytes.split_first()?;
        if version != VERSION || bytes.len() > DATAGRAM_MAX {
            return None;
        }
        let header: foca::Header<Identity> = PostcardCodec.decode_header(&mut rest).ok()?;
        let mut members = Vec::new();
        if header.message != Message::Broadcast
            && let Some((count, mut rest)) = rest.split_first_chunk::<2>()
        {
            for _ in 0..u16::from_be_bytes(*count) {
                members.push(PostcardCodec.decode_member(&mut rest).ok()?);
            }
        }
        Some(Parcel {
            src: header.src,
            members,
        })
    }

    /// Takes in a datagram that [`Swim::read`] could read.
    pub(super) fn datagram(&mut self, now: Millis, bytes: &[u8]) {
        let told = self.foca.handle_data(&bytes[1..], &mut self.runtime);
        self.drain(now, told);
    }

    pub(super) fn wake(&mut self, now: Millis) {
        if let Some((first, _)) = self.timers.keys().next() {
            let late = now.since(*first);
            if late > LATE_MAX {
                let timers = std::mem::take(&mut self.timers).into_iter();
                self.timers = timers
                    .map(|((at, order), timer)| ((at.plus(late), order), timer))
                    .collect();
            }
        }
        while let Some(first) = self.timers.first_entry() {
            if first.key().0 > now {
                break;
            }
            let told = self.foca.handle_timer(first.remove(), &mut self.runtime);
            self.drain(now, told);
        }
        if self.spread_at.is_some_and(|at| at <= now) {
            self.spread_at = None;
            let told = self.foca.gossip(&mut self.runtime);
            self.drain(now, told);
        }
    }

    pub(super) fn due(&self) -> Option<Millis> {
        let timer = self.timers.keys().next().map(|key| key.0);
        timer.into_iter().chain(self.spread_at).min()
    }

    /// Says hello; who hears it answers with whom it knows.
    pub(super) fn announce(&mut self, now: Millis, to: Identity) {
        let told = self.foca.announce(to, &mut self.runtime);
        self.drain(now, told);
    }

    /// Is somebody anew, and says so.
    pub(super) fn become_identity(&mut self, now: Millis, me: Identity) {
        let told = self.foca.change_identity(me, &mut self.runtime);
        self.drain(now, told);
    }

    /// Says goodbye, several times since nobody repeats it for us.
    pub(super) fn leave(&mut self, now: Millis) {
        const GOODBYES: usize = 3;
        let told = self.foca.leave_cluster(&mut self.runtime);
        self.drain(now, told);
        for _ in 1..GOODBYES {
            let told = self.foca.gossip(&mut self.runtime);
            self.drain(now, told);
        }
        self.timers.clear();
        self.spread_at = None;
    }

    /// Takes in what a peer knows about members, without passing it on.
    pub(super) fn learn(&mut self, now: Millis, members: Vec<Member<Identity>>) {
        let told = self
            .foca
            .apply_many(members.into_iter(), false, &mut self.runtime);
        self.drain(now, told);
    }

    /// Takes it out of the tables as if nobody had ever named it.
    pub(super) fn remove(&mut self, now: Millis, node: &NodeId) {
        let Some(id) = self.known(node).map(|member| member.id().clone()) else {
            return;
        };
        self.learn(now, vec![Member::down(id.clone())]);
        let told = self
            .foca
            .handle_timer(Timer::RemoveDown(id), &mut self.runtime);
        self.drain(now, told);
    }

    pub(super) fn take(&mut self) -> Said {
        std::mem::take(&mut self.said)
    }

    pub(super) fn me(&self) -> &Identity {
        self.foca.identity()
    }

    pub(super) fn known(&self, node: &NodeId) -> Option<&Member<Identity>> {
        let code = Code::of(node);
        let mut all = self.foca.iter_membership_state();
        all.find(|member| foca::Identity::addr(member.id()) == code)
    }

    pub(super) fn active(&self) -> impl Iterator<Item = &Identity> {
        self.foca.iter_members().map(Member::id)
    }

    /// Dead or alive, without this one.
    pub(super) fn everyone(&self) -> impl Iterator<Item = &Member<Identity>> {
        self.foca.iter_membership_state()
    }

    /// How many [`Swim::everyone`] names.
    pub(super) fn len(&self) -> usize {
        self.foca.iter_membership_state().len()
    }

    /// Collects what the library wants done. Its errors are about a peer's
    /// bytes or about a state that it has repaired; neither needs us.
    fn drain(&mut self, now: Millis, told: Result<(), foca::Error>) {
        if let Err(error) = told {
            log::debug!("membership: {error}");
        }
        while let Some((to, data)) = self.runtime.to_send() {
            let mut bytes = Vec::with_capacity(1 + data.len());
            bytes.push(VERSION);
            bytes.extend_from_slice(&data);
            self.said.datagrams.push((to.contact(), bytes));
        }
        while let Some((after, timer)) = self.runtime.to_schedule() {
            self.set += 1;
            let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            self.timers.insert((now.plus(after), self.set), timer);
        }
        while let Some(note) = self.runtime.to_notify() {
            self.said.notes.push(note);
        }
        if self.spread_at.is_none()
            && self.foca.updates_backlog() > 0
            && self.foca.num_members() > 0
        {
            self.spread_at = Some(now.plus(SPREAD_EVERY));
        }
        let members = self.foca.num_members() + 1;
        if members != self.sized_for {
            self.sized_for = members;
            // Refused only if the periods changed, which are constants.
            let _ = self.foca.set_config(config(members));
        }
    }
}

/// For a cluster of so many members.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn config(members: usize) -> Config {
    let decades = (members.max(5) as f64 / 5.0).log10();
    let suspicion = SUSPICION_MS + SUSPICION_DECADE_MS * decades;
    // Each news is told so often by everyone: 6 times among five, 15 among 500.
    let transmissions = 6.0 + 4.5 * decades;
    Config {
        probe_period: PROBE_EVERY,
        probe_rtt: PROBE_RTT,
        num_indirect_probes: INDIRECT,
        max_transmissions: NonZeroU8::new(transmissions as u8).unwrap_or(NonZeroU8::MAX),
        suspect_to_down_after: Duration::from_millis(suspicion as u64),
        remove_down_after: Some(REMEMBER_DOWN),
        max_packet_size: NonZeroUsize::new(DATAGRAM_MAX - 1).unwrap_or(NonZeroUsize::MIN),
        notify_down_members: true,
        // Ours are on demand, so that nothing wakes an idle node.
        periodic_announce: None,
        periodic_announce_to_down_members: None,
        periodic_gossip: None,
    }
}

/// Whether it is down, as far as a peer says.
pub(super) fn is_down(member: &Member<Identity>) -> bool {
    member.state() == State::Down
}

/// The library's source of chance.
struct Dice(Random);

impl rand::TryRng for Dice {
    type Error = Infallible;

    #[allow(clippy::cast_possible_truncation)]
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.word() as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.word())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            let word = self.0.word().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }
}
