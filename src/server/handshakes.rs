//! Handshakes under way: so many at once, and no network keeps the others from theirs.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::rpc::network;

/// Handshakes under way at once: a fleet behind one address that comes back after a restart has them at the pace of the
/// machine's cores, two thousand in about a second, and each holds some 30 KiB.
pub(super) const HANDSHAKES_MAX: usize = 2_048;

/// All that are under way.
#[derive(Debug)]
pub(super) struct Handshakes {
    max: usize,
    under_way: Mutex<UnderWay>,
}

#[derive(Debug, Default)]
struct UnderWay {
    next: u64,
    all: usize,
    /// In the order in which they began, each with what ends it.
    by_network: HashMap<IpAddr, BTreeMap<u64, oneshot::Sender<()>>>,
}

/// The place of one, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Handshake {
    handshakes: Arc<Handshakes>,
    network: IpAddr,
    number: u64,
    /// Its place was given to another.
    cut: oneshot::Receiver<()>,
}

impl Handshakes {
    /// So many at once.
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, under_way: Mutex::default() })
    }

    /// Takes a place. When there is none, the network with the most gives up its oldest one, unless this one has as many:
    /// then there is none.
    pub(super) fn begin(self: &Arc<Self>, address: IpAddr) -> Option<Handshake> {
        let network = network(address);
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if under_way.all >= self.max && !under_way.make_room(network) {
            return None;
        }
        let (end, cut) = oneshot::channel();
        let number = under_way.next;
        under_way.next += 1;
        under_way.all += 1;
        under_way.by_network.entry(network).or_default().insert(number, end);
        drop(under_way);
        Some(Handshake { handshakes: Arc::clone(self), network, number, cut })
    }
}

impl UnderWay {
    fn make_room(&mut self, newcomer: IpAddr) -> bool {
        let own = self.by_network.get(&newcomer).map_or(0, BTreeMap::len);
        let most = self.by_network.iter().max_by_key(|(_, of)| of.len());
        let Some((network, _)) = most.filter(|(_, of)| of.len() > own + 1) else { return false };
        let network = *network;
        let oldest = self.by_network.get_mut(&network).and_then(BTreeMap::pop_first);
        let Some((_, end)) = oldest else { return false };
        self.all -= 1;
        // Who has ended meanwhile hears nothing.
        let _ = end.send(());
        true
    }

    fn end(&mut self, network: IpAddr, number: u64) {
        let Some(of) = self.by_network.get_mut(&network) else { return };
        if of.remove(&number).is_some() {
            self.all -= 1;
        }
        if of.is_empty() {
            self.by_network.remove(&network);
        }
    }
}

impl Handshake {
    /// Ends when its place was given to another network.
    pub(super) async fn cut(&mut self) {
        if (&mut self.cut).await.is_err() {
            std::future::pending().await
        }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut under_way = self.handshakes.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.end(self.network, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    fn is_cut(handshake: &mut Handshake) -> bool {
        handshake.cut.try_recv().is_ok()
    }

    #[test]
    fn one_network_has_all_places_until_another_wants_one() {
        let handshakes = Handshakes::new(4);
        let mut held: Vec<_> = (0..4).map(|_| handshakes.begin(at("192.0.2.1")).unwrap()).collect();
        assert!(handshakes.begin(at("192.0.2.1")).is_none(), "it has the most itself");
        // The second network gets its share, of the oldest.
        let others: Vec<_> = (0..2).map(|_| handshakes.begin(at("192.0.2.2")).unwrap()).collect();
        assert_eq!(held.iter_mut().map(is_cut).collect::<Vec<_>>(), [true, true, false, false]);
        assert!(handshakes.begin(at("192.0.2.2")).is_none(), "both have as many");
        // A third one still finds a place.
        let third = handshakes.begin(at("192.0.2.3")).unwrap();
        // A place that was given away is not given back twice.
        drop(held);
        drop(others);
        drop(third);
        let under_way = handshakes.under_way.lock().unwrap();
        assert_eq!((under_way.all, under_way.by_network.len()), (0, 0));
    }

    #[test]
    fn half_an_ipv6_address_is_one_network() {
        let handshakes = Handshakes::new(2);
        let mut first = handshakes.begin(at("2001:db8:1:2::1")).unwrap();
        let _second = handshakes.begin(at("2001:db8:1:2:ffff::1")).unwrap();
        assert!(handshakes.begin(at("2001:db8:1:2::3")).is_none());
        assert!(handshakes.begin(at("2001:db8:1:3::1")).is_some());
        assert!(is_cut(&mut first));
    }

    #[test]
    fn as_many_networks_as_places_keep_them() {
        let handshakes = Handshakes::new(2);
        let _held = ["192.0.2.1", "192.0.2.2"].map(|address| handshakes.begin(at(address)).unwrap());
        assert!(handshakes.begin(at("192.0.2.3")).is_none(), "else all would end each other's");
    }
}
