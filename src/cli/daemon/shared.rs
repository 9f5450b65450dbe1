//! What those who show a daemon see of it beside its jobs: its node, where it answers, what it counts and what has happened.
//!
//! How it is shown is said by them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use reknit_core::Millis;
use reknit_core::agenda::FreshIndex;

use super::{Daemon, Events, Totals};
use crate::clock::now_ms;
use crate::node::{Counted, Home, Node};
use crate::store::Store;
use crate::store::linked::ServedTable;

impl Daemon {
    /// Serves its stores by this node.
    pub(crate) fn serves_by(&self, node: Node) {
        // It is bound once.
        let _ = self.node.set(node);
    }

    /// Lets peers compare these tables, each with where it is.
    pub(crate) fn compares(&self, tables: Vec<(String, ServedTable)>) {
        // They are opened once.
        let _ = self.tables.set(tables);
    }

    /// The tables that peers compare, each with where it is.
    pub(crate) fn tables(&self) -> &[(String, ServedTable)] {
        self.tables.get().map_or(&[], Vec::as_slice)
    }

    /// What its node has counted.
    pub(crate) fn counted(&self) -> Option<Counted> {
        self.node.get().map(Node::counted)
    }

    /// A request by HTTP was answered.
    pub(crate) fn requested(&self, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *requests.entry(status).or_default() += 1;
    }

    /// Requests by HTTP, by the status of their answers.
    pub(crate) fn requests(&self) -> BTreeMap<u16, u64> {
        self.requests.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Jobs that are due and have not begun.
    pub(crate) fn due(&self) -> usize {
        self.lock().agenda.waiting(now_ms())
    }

    /// Answers HTTP there.
    pub(crate) fn answers_at(&self, http: SocketAddr) {
        // It is begun once.
        let _ = self.http.set(http);
    }

    /// Where it answers HTTP.
    pub(crate) fn http(&self) -> Option<SocketAddr> {
        self.http.get().copied()
    }

    /// What has happened.
    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    /// What runs have come to since it began.
    pub(crate) fn totals(&self) -> Totals {
        self.lock().totals.clone()
    }

    /// How fresh the indexes are that runs of the configured jobs have followed, by their names.
    pub(crate) fn indexes(&self) -> BTreeMap<String, FreshIndex> {
        let mut newest: BTreeMap<String, FreshIndex> = BTreeMap::new();
        for index in
            self.lock().agenda.jobs().values().filter(|job| job.plan.is_some()).flat_map(|job| &job.kept.indexes)
        {
            if newest.get(&index.index).is_none_or(|known| known.at < index.at) {
                newest.insert(index.index.clone(), index.clone());
            }
        }
        newest
    }

    /// Its home.
    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// The stores that it has open.
    pub(crate) fn stores(&self) -> &BTreeMap<PathBuf, Store> {
        &self.stores
    }

    /// When it was made.
    pub(crate) fn began(&self) -> Millis {
        self.began
    }

    /// Why it is not ready, in words; nothing if it is.
    pub(crate) fn not_ready(&self) -> Vec<&'static str> {
        let state = self.lock();
        let jobs = (!state.keeping).then_some("jobs are not begun yet when they are due");
        let peers = (!self.stores.is_empty() && self.node.get().is_none()).then_some("peers are not answered yet");
        let writes = self.stores.values().any(Store::refuses_writes).then_some("a store takes no writes any more");
        [jobs, peers, writes, state.ending.then_some("runs are ending")].into_iter().flatten().collect()
    }
}
