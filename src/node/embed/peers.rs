//! Whom an embedded node is with: invitations, tickets, sessions that are asked for.

use std::net::SocketAddr;
use std::time::Duration;

use reknit_core::members::{LEASE_MILLIS, Member};
use reknit_core::message::{RefuseCode, Rights};
use reknit_core::session::{Direction, Intent, Options};
use std::sync::{Arc, PoisonError};
use tokio::sync::watch;

use super::builder::{INVITED_AT, drawn, made, nameable};
use super::{EmbedError, Running, blocking};
use crate::clock::now_ms;
use crate::node::gossip::lesser;
use crate::node::{Budget, Grants, Invitation, Node, NodeBrakes, SessionReport, Ticket};
use crate::store::{Side, StoreError};
use crate::transport::{Address, PeerId};

impl Running {
    /// A ticket with which one other node joins a dataset within that time, and what it may on it then. Whoever has it has the
    /// secret of the dataset: it is passed on like a password.
    ///
    /// # Errors
    /// [`EmbedError::NoDataset`], [`EmbedError::NoAddress`], or the home cannot be written.
    pub async fn invite(&self, dataset: &str, may: Rights, lasts: Duration) -> Result<String, EmbedError> {
        let (store, home, me) = (self.store(dataset)?, self.shared.home.clone(), self.peer());
        let at = self.reached_at()?;
        blocking(move || {
            let token: [u8; 16] = drawn()?;
            let definition = (**store.definition()).clone();
            let name = definition.name.clone();
            let address = Address { peer: me, host: at.ip().to_string(), port: at.port(), dataset: name.clone() };
            let collections = definition.collections.iter();
            let layouts = collections.map(|c| store.collection(&c.name)?.layout()).collect::<Result<_, _>>()?;
            // Whoever invites takes part itself.
            if definition.members().is_some() && !store.members()?.iter().any(|(peer, _)| *peer == me.0) {
                store.add_member(&me.0, &Member { name: String::new(), since: now_ms(), lease: LEASE_MILLIS })?;
            }
            let lasts = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX / 2);
            let expires = now_ms().saturating_add(lasts);
            let (token_hash, may) = (*blake3::hash(&token).as_bytes(), Grants::from(may).within(&name));
            home.invite(&Invitation { token_hash, may, expires })?;
            let (key, address, token) = (store.dataset_key().clone(), address.to_string(), token.to_vec());
            Ok(Ticket { definition, key, address, token, layouts, table: None }.to_string())
        })
        .await
    }

    /// Takes up an invitation: has a store of its dataset from now on, and lets whoever invited compare, read and write it.
    /// Says where that is. The store is empty until the first session; [`Running::sync_at`] holds one at once.
    ///
    /// Sessions that this node opened are waited for, those that it answers end with what they have: it begins to answer anew,
    /// with one dataset more. Whoever drops the future does not stop it: it goes on to its end.
    ///
    /// # Errors
    /// [`EmbedError::Ticket`], [`EmbedError::Tables`], [`EmbedError::Address`], [`EmbedError::DatasetName`],
    /// [`EmbedError::DatasetExists`], [`EmbedError::Suspended`], [`EmbedError::Store`] for a policy that this program does not bring, or [`EmbedError::Node`] if the invitation has ended or its node cannot be reached. Once it is taken up, a store that cannot
    /// be made is [`EmbedError::Store`]; the same node may take it up again until it ends.
    pub async fn join(&self, ticket: &str) -> Result<Address, EmbedError> {
        let ticket: Ticket = ticket.parse()?;
        let node = self.clone();
        // Half a join would leave an invitation without a store, or a node without a network.
        let joined = self.shared.runtime.spawn(async move { node.join_by(ticket).await });
        joined.await.unwrap_or_else(|panic| Err(StoreError::Panicked(panic.to_string()).into()))
    }

    async fn join_by(&self, ticket: Ticket) -> Result<Address, EmbedError> {
        if ticket.table.is_some() {
            return Err(EmbedError::Tables { name: ticket.definition.name });
        }
        let address: Address = ticket.address.parse()?;
        let _turn = self.shared.turn.write().await;
        let node = self.live()?;
        let name = ticket.definition.name.clone();
        nameable(&name)?;
        let policies = ticket.definition.collections.iter().map(|collection| &collection.policy);
        for policy in policies {
            self.shared.options.policies.get(policy).map_err(StoreError::Policy)?;
        }
        {
            let state = self.state();
            let same = |kept: &super::Kept| kept.store.definition().id == ticket.definition.id;
            let mine = self.shared.sides.contains_key(&name);
            if mine || state.stores.contains_key(&name) || state.stores.values().any(same) {
                return Err(EmbedError::DatasetExists { name });
            }
        }
        node.take_up(&ticket, &address).await?;
        drop(node);
        let (home, on_disk, options) = (self.shared.home.clone(), self.shared.on_disk, self.shared.options.clone());
        let (inviter, noted) = (address.peer, address.to_string());
        let store = blocking(move || {
            let Ticket { definition, key, layouts, .. } = ticket;
            let (name, collections) = (definition.name.clone(), definition.collections.clone());
            made(&home, on_disk, definition, key, &options, |store| {
                for (collection, layout) in collections.iter().zip(layouts) {
                    store.collection(&collection.name)?.set_layout(layout)?;
                }
                store.set_fact(INVITED_AT, Some(noted.into_bytes()))?;
                let may = Rights::COMPARE.and(Rights::READ).and(Rights::WRITE);
                Ok(home.grant(inviter, &Grants::from(may).within(&name))?)
            })
        })
        .await?;
        {
            let mut state = self.state();
            state.add(store, true)?;
            state.seeds.push(address.clone());
        }
        self.shared.names.write().unwrap_or_else(PoisonError::into_inner).push(name);
        self.end_network().await;
        self.begin_network().await?;
        Ok(address)
    }

    /// Holds a session about a dataset with a peer that is up or has invited this node: both sides are repaired, as far as the
    /// peer grants that to this node, within the brakes of the node ([`super::Builder::brakes`]). What came of it is in the
    /// outcome; whatever happens to it, what was applied is valid.
    ///
    /// # Errors
    /// [`EmbedError::UnknownPeer`], and as for [`Running::sync_at`].
    pub async fn sync_now(&self, dataset: &str, peer: PeerId) -> Result<SessionReport, EmbedError> {
        let name = self.side(dataset)?.describe().definition.name.clone();
        let address = {
            let state = self.state();
            let live = state.live.as_ref().ok_or(EmbedError::Suspended)?;
            let near = live.gossip.iter().flat_map(|gossip| gossip.neighbours()).find(|near| near.peer == peer);
            let near = near.map(|near| {
                let (host, port) = (near.at.ip().to_string(), near.at.port());
                Address { peer, host, port, dataset: name.clone() }
            });
            let seed = state.seeds.iter().find(|seed| seed.peer == peer);
            near.or_else(|| seed.map(|seed| Address { dataset: name, ..seed.clone() }))
        };
        self.sync_at(&address.ok_or(EmbedError::UnknownPeer(peer))?).await
    }

    /// The same with whoever serves the dataset at that address. Dropping the future ends the session at once.
    ///
    /// # Errors
    /// [`EmbedError::NoDataset`], [`EmbedError::Suspended`], or [`EmbedError::Node`] for a session without an outcome.
    pub async fn sync_at(&self, address: &Address) -> Result<SessionReport, EmbedError> {
        let never = watch::Sender::new(false);
        let hold = |intent| self.session_at(address, Options::new(intent), Budget::default(), never.subscribe());
        let all = Intent::Repair(Direction::Both);
        let mut report = hold(all).await?;
        for less in lesser(all) {
            let refusal = report.outcome.refusal.as_ref();
            if refusal.is_none_or(|refusal| refusal.code != RefuseCode::Rights) {
                break;
            }
            report = hold(*less).await?;
        }
        Ok(report)
    }

    /// A session of whatever kind, with the brakes of the node, until it or the node is told to end.
    pub(super) async fn session_at(
        &self,
        address: &Address,
        options: Options,
        budget: Budget,
        mut cancelled: watch::Receiver<bool>,
    ) -> Result<SessionReport, EmbedError> {
        // Whoever ends the node has the turn and waits for all stores: nothing is held while this waits for it.
        let _turn = self.shared.turn.read().await;
        let side = self.side(&address.dataset)?;
        let node = self.live()?;
        let NodeBrakes { brakes, window } = self.shared.brakes;
        let options = (Options { brakes: Some(brakes), ..options }, window);
        let mut of_node = self.state().live.as_ref().map(|live| live.stop.subscribe()).ok_or(EmbedError::Suspended)?;
        let stop = watch::Sender::new(false);
        let until = stop.subscribe();
        let told = async move {
            // Whoever is gone without a word ends it too.
            tokio::select! {
                _ = of_node.wait_for(|stop| *stop) => {}
                _ = cancelled.wait_for(|cancelled| *cancelled) => {}
            }
            stop.send_replace(true);
            std::future::pending().await
        };
        let mut ignored = |_| {};
        tokio::select! {
            report = node.session_counted(address, side, options, budget, until, &mut ignored) => Ok(report?),
            never = told => never,
        }
    }

    /// What a peer may on this node: added to what it may already.
    ///
    /// # Errors
    /// [`EmbedError::NoDataset`], [`EmbedError::Home`].
    pub async fn grant(&self, dataset: &str, peer: PeerId, may: Rights) -> Result<(), EmbedError> {
        let (name, home) = (self.side(dataset)?.describe().definition.name.clone(), self.shared.home.clone());
        blocking(move || Ok(home.grant(peer, &Grants::from(may).within(&name))?)).await
    }

    /// Takes all from a peer that it was granted or invited to; what [`super::Builder::authorize`] decides stays. Says whether
    /// there was anything.
    ///
    /// # Errors
    /// [`EmbedError::Home`].
    pub async fn revoke(&self, peer: PeerId) -> Result<bool, EmbedError> {
        let home = self.shared.home.clone();
        blocking(move || Ok(home.remove_peer(peer)?)).await
    }

    /// The store of a dataset, whosever it is.
    pub(super) fn side(&self, dataset: &str) -> Result<Arc<dyn Side>, EmbedError> {
        match self.shared.sides.get(dataset) {
            Some(side) => self.alive().map(|()| side.clone()),
            None => Ok(Arc::new(self.store(dataset)?)),
        }
    }

    fn live(&self) -> Result<Node, EmbedError> {
        self.alive()?;
        self.state().live.as_ref().map(|live| live.node.clone()).ok_or(EmbedError::Suspended)
    }

    /// Where others reach this node.
    fn reached_at(&self) -> Result<SocketAddr, EmbedError> {
        let bound = self.local_addr().filter(|at| !at.ip().is_unspecified());
        self.shared.advertise.or(bound).ok_or(EmbedError::NoAddress)
    }
}
