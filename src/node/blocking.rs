//! An embedded node for programs without a runtime: the same methods, each of which waits, on a runtime of the node's own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use reknit_core::agenda::Kept;
use reknit_core::message::Rights;
use reknit_core::objective::Objective;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use super::SessionReport;
use super::embed::{self, Builder, EmbedError, Job, Record, Status, TypedWatch, Watch};
use crate::store::{Cursor, Store};
use crate::transport::{Address, PeerId};

/// A node that runs in this program on two threads of its own; see [`embed::Running`] for what its methods do, give and cost.
/// It must not be used within a runtime, where waiting is not allowed. When it is dropped without [`Running::shutdown`] it ends
/// at once.
pub struct Running {
    inner: embed::Running,
    runtime: Runtime,
}

/// A collection whose values are of one type; see [`embed::Typed`].
pub struct Typed<'n, T> {
    inner: embed::Typed<T>,
    runtime: &'n Runtime,
}

impl Builder {
    /// Starts the node on a runtime of its own; see [`Builder::start`].
    ///
    /// # Errors
    /// As there, and [`EmbedError::Runtime`].
    pub fn start_blocking(self) -> Result<Running, EmbedError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(EmbedError::Runtime)?;
        let inner = runtime.block_on(self.start())?;
        Ok(Running { inner, runtime })
    }
}

impl Running {
    /// Who this node is.
    pub fn peer(&self) -> PeerId {
        self.inner.peer()
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.inner.local_addr()
    }

    /// See [`embed::Running::invite`].
    ///
    /// # Errors
    /// As there.
    pub fn invite(&self, dataset: &str, may: Rights, lasts: Duration) -> Result<String, EmbedError> {
        self.runtime.block_on(self.inner.invite(dataset, may, lasts))
    }

    /// See [`embed::Running::join`].
    ///
    /// # Errors
    /// As there.
    pub fn join(&self, ticket: &str) -> Result<Address, EmbedError> {
        self.runtime.block_on(self.inner.join(ticket))
    }

    /// See [`embed::Running::grant`].
    ///
    /// # Errors
    /// As there.
    pub fn grant(&self, dataset: &str, peer: PeerId, may: Rights) -> Result<(), EmbedError> {
        self.runtime.block_on(self.inner.grant(dataset, peer, may))
    }

    /// See [`embed::Running::revoke`].
    ///
    /// # Errors
    /// As there.
    pub fn revoke(&self, peer: PeerId) -> Result<bool, EmbedError> {
        self.runtime.block_on(self.inner.revoke(peer))
    }

    /// See [`embed::Running::sync_now`].
    ///
    /// # Errors
    /// As there.
    pub fn sync_now(&self, dataset: &str, peer: PeerId) -> Result<SessionReport, EmbedError> {
        self.runtime.block_on(self.inner.sync_now(dataset, peer))
    }

    /// See [`embed::Running::sync_at`].
    ///
    /// # Errors
    /// As there.
    pub fn sync_at(&self, address: &Address) -> Result<SessionReport, EmbedError> {
        self.runtime.block_on(self.inner.sync_at(address))
    }

    /// See [`embed::Running::job`].
    ///
    /// # Errors
    /// As there.
    pub fn job(&self, name: &str, job: Job) -> Result<(), EmbedError> {
        self.inner.job(name, job)
    }

    /// See [`embed::Running::drop_job`].
    pub fn drop_job(&self, name: &str) -> bool {
        self.inner.drop_job(name)
    }

    /// See [`embed::Running::run_job`].
    pub fn run_job(&self, name: &str) -> bool {
        self.inner.run_job(name)
    }

    /// See [`embed::Running::pause_job`].
    pub fn pause_job(&self, name: &str) -> bool {
        self.inner.pause_job(name)
    }

    /// See [`embed::Running::resume_job`].
    pub fn resume_job(&self, name: &str) -> bool {
        self.inner.resume_job(name)
    }

    /// See [`embed::Running::cancel_job`].
    pub fn cancel_job(&self, name: &str) -> bool {
        self.inner.cancel_job(name)
    }

    /// See [`embed::Running::objective`].
    pub fn objective(&self, name: &str) -> Option<Objective> {
        self.inner.objective(name)
    }

    /// See [`embed::Running::jobs`].
    pub fn jobs(&self) -> BTreeMap<String, Kept> {
        self.inner.jobs()
    }

    /// See [`embed::Running::put`].
    ///
    /// # Errors
    /// As there.
    pub fn put(&self, place: &str, key: &[u8], value: &[u8]) -> Result<u64, EmbedError> {
        self.runtime.block_on(self.inner.put(place, key, value))
    }

    /// See [`embed::Running::get`].
    ///
    /// # Errors
    /// As there.
    pub fn get(&self, place: &str, key: &[u8]) -> Result<Option<Vec<u8>>, EmbedError> {
        self.runtime.block_on(self.inner.get(place, key))
    }

    /// See [`embed::Running::update`].
    ///
    /// # Errors
    /// As there.
    pub fn update(
        &self,
        place: &str,
        key: &[u8],
        change: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>> + Send + 'static,
    ) -> Result<bool, EmbedError> {
        self.runtime.block_on(self.inner.update(place, key, change))
    }

    /// See [`embed::Running::delete`].
    ///
    /// # Errors
    /// As there.
    pub fn delete(&self, place: &str, key: &[u8]) -> Result<bool, EmbedError> {
        self.runtime.block_on(self.inner.delete(place, key))
    }

    /// See [`embed::Running::list`].
    ///
    /// # Errors
    /// As there.
    pub fn list(&self, place: &str, prefix: &[u8], limit: usize) -> Result<Vec<Record>, EmbedError> {
        self.runtime.block_on(self.inner.list(place, prefix, limit))
    }

    /// See [`embed::Running::collection`].
    ///
    /// # Errors
    /// As there.
    pub fn collection<T: Serialize + DeserializeOwned>(&self, place: &str) -> Result<Typed<'_, T>, EmbedError> {
        Ok(Typed { inner: self.inner.collection(place)?, runtime: &self.runtime })
    }

    /// See [`embed::Running::store`].
    ///
    /// # Errors
    /// As there.
    pub fn store(&self, dataset: &str) -> Result<Store, EmbedError> {
        self.inner.store(dataset)
    }

    /// See [`embed::Running::watch`]; read it with [`Watch::blocking_next`].
    ///
    /// # Errors
    /// As there.
    pub fn watch(&self, dataset: &str, cursor: Option<Cursor>) -> Result<Watch, EmbedError> {
        self.inner.watch(dataset, cursor)
    }

    /// See [`embed::Running::status`].
    ///
    /// # Errors
    /// As there.
    pub fn status(&self) -> Result<Status, EmbedError> {
        self.runtime.block_on(self.inner.status())
    }

    /// See [`embed::Running::suspend`].
    ///
    /// # Errors
    /// As there.
    pub fn suspend(&self) -> Result<(), EmbedError> {
        self.runtime.block_on(self.inner.suspend())
    }

    /// See [`embed::Running::resume`].
    ///
    /// # Errors
    /// As there.
    pub fn resume(&self) -> Result<(), EmbedError> {
        self.runtime.block_on(self.inner.resume())
    }

    /// See [`embed::Running::shutdown`]; the threads end too.
    ///
    /// # Errors
    /// As there.
    pub fn shutdown(self) -> Result<(), EmbedError> {
        self.runtime.block_on(self.inner.shutdown())
    }
}

impl<T: Serialize + DeserializeOwned> Typed<'_, T> {
    /// See [`embed::Typed::put`].
    ///
    /// # Errors
    /// As there.
    pub fn put(&self, key: &str, value: &T) -> Result<u64, EmbedError> {
        self.runtime.block_on(self.inner.put(key, value))
    }

    /// See [`embed::Typed::get`].
    ///
    /// # Errors
    /// As there.
    pub fn get(&self, key: &str) -> Result<Option<T>, EmbedError> {
        self.runtime.block_on(self.inner.get(key))
    }

    /// See [`embed::Typed::update`].
    ///
    /// # Errors
    /// As there.
    pub fn update(
        &self,
        key: &str,
        change: impl FnMut(Option<T>) -> Option<T> + Send + 'static,
    ) -> Result<bool, EmbedError>
    where
        T: 'static,
    {
        self.runtime.block_on(self.inner.update(key, change))
    }

    /// See [`embed::Typed::watch`]; read it with [`TypedWatch::blocking_next`].
    ///
    /// # Errors
    /// As there.
    pub fn watch(&self, cursor: Option<Cursor>) -> Result<TypedWatch<T>, EmbedError> {
        self.inner.watch(cursor)
    }

    /// See [`embed::Typed::delete`].
    ///
    /// # Errors
    /// As there.
    pub fn delete(&self, key: &str) -> Result<bool, EmbedError> {
        self.runtime.block_on(self.inner.delete(key))
    }

    /// See [`embed::Typed::list`].
    ///
    /// # Errors
    /// As there.
    pub fn list(&self, prefix: &str, limit: usize) -> Result<Vec<Record<T>>, EmbedError> {
        self.runtime.block_on(self.inner.list(prefix, limit))
    }
}
