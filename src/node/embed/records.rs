//! Records of an embedded node, as bytes and as values of the program's types.
//!
//! A place is `DATASET/COLLECTION`, as it is where rights are written; `DATASET` alone means its first collection.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Change, EmbedError, Running, Watch, blocking};
use crate::store::{Collection, Cursor, Origin, Store, StoreError};

/// A key and its value.
pub type Record<T = Vec<u8>> = (Vec<u8>, T);

impl Running {
    /// Gives a key a value; synced when it returns, told to peers by gossip. Returns the commit number. Costs a sync of the
    /// disk, which concurrent calls share.
    ///
    /// # Errors
    /// [`EmbedError::NoDataset`], or [`EmbedError::Store`]: no such collection, a key above 64 KiB, a value above 64 MiB, or
    /// what the disk says.
    pub async fn put(&self, place: &str, key: &[u8], value: &[u8]) -> Result<u64, EmbedError> {
        let (key, value) = (key.to_vec(), value.to_vec());
        self.within(place, move |collection| Ok(collection.put(&key, &value)?)).await
    }

    /// The value of a key.
    ///
    /// # Errors
    /// As for [`Running::put`].
    pub async fn get(&self, place: &str, key: &[u8]) -> Result<Option<Vec<u8>>, EmbedError> {
        let key = key.to_vec();
        self.within(place, move |collection| Ok(collection.get(&key)?)).await
    }

    /// Gives a key what `change` makes of its value, or deletes it where that is none; synced when it returns. Says whether that
    /// was anything else than before.
    ///
    /// If the key is written meanwhile, here or on a peer, `change` is asked again, up to 1,000 times: what it was not shown is
    /// not replaced. That tells it from [`Running::get`] and [`Running::put`], between which a write may be lost. It is called on
    /// a thread where it may block.
    ///
    /// # Errors
    /// As for [`Running::put`].
    pub async fn update(
        &self,
        place: &str,
        key: &[u8],
        change: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>> + Send + 'static,
    ) -> Result<bool, EmbedError> {
        let key = key.to_vec();
        self.within(place, move |collection| Ok(collection.update(&key, change)?)).await
    }

    /// Deletes a key; synced when it returns. Says whether it had a value.
    ///
    /// # Errors
    /// As for [`Running::put`].
    pub async fn delete(&self, place: &str, key: &[u8]) -> Result<bool, EmbedError> {
        let key = key.to_vec();
        self.within(place, move |collection| Ok(collection.delete(&key)?)).await
    }

    /// The records whose keys begin with `prefix`, in key order, so many at most; they are all in memory then.
    ///
    /// # Errors
    /// As for [`Running::put`].
    pub async fn list(&self, place: &str, prefix: &[u8], limit: usize) -> Result<Vec<Record>, EmbedError> {
        let prefix = prefix.to_vec();
        let list = move |collection: Collection| Ok(collection.scan(&prefix)?.take(limit).collect::<Result<_, _>>()?);
        self.within(place, list).await
    }

    /// A collection whose values are a type of the program's, as MessagePack with the names of fields, so that fields can be
    /// added with `#[serde(default)]`.
    ///
    /// # Errors
    /// [`EmbedError::NoDataset`], [`EmbedError::Store`] if there is no such collection.
    pub fn collection<T: Serialize + DeserializeOwned>(&self, place: &str) -> Result<Typed<T>, EmbedError> {
        self.place(place)?;
        Ok(Typed { node: self.clone(), place: place.into(), of: PhantomData })
    }

    /// The store of a dataset. Whoever keeps it keeps it open beyond the end of the node.
    ///
    /// # Errors
    /// [`EmbedError::NoDataset`], [`EmbedError::Ended`].
    pub fn store(&self, dataset: &str) -> Result<Store, EmbedError> {
        self.alive()?;
        let state = self.state();
        state.stores.get(dataset).map(|kept| kept.store.clone()).ok_or_else(|| {
            let have: Vec<&str> = state.stores.keys().map(String::as_str).collect();
            EmbedError::NoDataset { name: dataset.into(), have: have.join(", ") }
        })
    }

    pub(super) fn place(&self, place: &str) -> Result<Collection, EmbedError> {
        let Some((dataset, name)) = place.split_once('/') else { return Ok(self.store(place)?.first()) };
        let (store, collection) = (self.store(dataset)?, self.store(dataset)?.collection(name)?);
        // Members are written by invitations and joining alone.
        match store.definition().collection(name).is_some_and(|id| store.definition().is_data(id)) {
            true => Ok(collection),
            false => {
                let have: Vec<&str> = store.definition().data().map(|(_, of)| of.name.as_str()).collect();
                Err(StoreError::NoCollection { name: name.into(), have: have.join(", ") }.into())
            }
        }
    }

    async fn within<T: Send + 'static>(
        &self,
        place: &str,
        work: impl FnOnce(Collection) -> Result<T, EmbedError> + Send + 'static,
    ) -> Result<T, EmbedError> {
        let collection = self.place(place)?;
        blocking(move || work(collection)).await
    }
}

/// A collection whose values are of one type. It keeps no store open.
pub struct Typed<T> {
    node: Running,
    place: String,
    of: PhantomData<fn() -> T>,
}

impl<T> Clone for Typed<T> {
    fn clone(&self) -> Self {
        Typed { node: self.node.clone(), place: self.place.clone(), of: PhantomData }
    }
}

impl<T: Serialize + DeserializeOwned> Typed<T> {
    /// Gives a key a value, as [`Running::put`] does.
    ///
    /// # Errors
    /// As there, and [`EmbedError::Unwritable`] for a value that serde refuses.
    pub async fn put(&self, key: &str, value: &T) -> Result<u64, EmbedError> {
        let value = self.written(key, value)?;
        self.node.put(&self.place, key.as_bytes(), &value).await
    }

    /// Gives a key what `change` makes of its value, as [`Running::update`] does.
    ///
    /// # Errors
    /// As there, [`EmbedError::Value`] for a value that is no `T`, and [`EmbedError::Unwritable`].
    pub async fn update(
        &self,
        key: &str,
        mut change: impl FnMut(Option<T>) -> Option<T> + Send + 'static,
    ) -> Result<bool, EmbedError>
    where
        T: 'static,
    {
        let (of, key) = (self.clone(), key.to_string());
        let update = move |collection: Collection| {
            collection.try_update(key.as_bytes(), |value| {
                let value = value.map(|value| of.read(key.as_bytes(), value)).transpose()?;
                change(value).map(|value| of.written(&key, &value)).transpose()
            })?
        };
        self.node.within(&self.place, update).await
    }

    /// The value of a key.
    ///
    /// # Errors
    /// As for [`Running::get`], and [`EmbedError::Value`] for one that is no `T`.
    pub async fn get(&self, key: &str) -> Result<Option<T>, EmbedError> {
        let value = self.node.get(&self.place, key.as_bytes()).await?;
        value.map(|value| self.read(key.as_bytes(), &value)).transpose()
    }

    /// Deletes a key, as [`Running::delete`] does.
    ///
    /// # Errors
    /// As there.
    pub async fn delete(&self, key: &str) -> Result<bool, EmbedError> {
        self.node.delete(&self.place, key.as_bytes()).await
    }

    /// The values whose keys begin with `prefix`, as [`Running::list`] gives them.
    ///
    /// # Errors
    /// As there, and [`EmbedError::Value`] at the first that is no `T`.
    pub async fn list(&self, prefix: &str, limit: usize) -> Result<Vec<Record<T>>, EmbedError> {
        let records = self.node.list(&self.place, prefix.as_bytes(), limit).await?;
        records.into_iter().map(|(key, value)| self.read(&key, &value).map(|value| (key, value))).collect()
    }

    /// Follows the changes of this collection after `cursor`, as [`Running::watch`] does.
    ///
    /// # Errors
    /// As there.
    pub fn watch(&self, cursor: Option<Cursor>) -> Result<TypedWatch<T>, EmbedError> {
        let dataset = self.place.split('/').next().unwrap_or_default();
        let collection = self.node.store(dataset)?.definition().collection(self.node.place(&self.place)?.name());
        Ok(TypedWatch { of: self.clone(), watch: self.node.watch_in(dataset, collection, cursor)? })
    }

    /// Reads a value, such as one that a watcher was told of.
    ///
    /// # Errors
    /// [`EmbedError::Value`]: peers write what they like.
    pub fn read(&self, key: &[u8], value: &[u8]) -> Result<T, EmbedError> {
        rmp_serde::from_slice(value).map_err(|error| EmbedError::Value {
            place: self.place.clone(),
            key: String::from_utf8_lossy(key).into_owned(),
            wanted: std::any::type_name::<T>(),
            reason: error.to_string(),
        })
    }

    fn written(&self, key: &str, value: &T) -> Result<Vec<u8>, EmbedError> {
        rmp_serde::to_vec_named(value).map_err(|error| EmbedError::Unwritable {
            place: self.place.clone(),
            key: key.into(),
            reason: error.to_string(),
        })
    }
}

/// Follows a collection whose values are of one type; ends as a [`Watch`] does.
pub struct TypedWatch<T> {
    of: Typed<T>,
    watch: Watch,
}

/// One change of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedChange<T> {
    /// Its key.
    pub key: Vec<u8>,
    /// It is now this; none where it is deleted.
    pub value: Option<T>,
    /// Who changed it; none where that was caught up from the records, which do not tell.
    pub origin: Option<Origin>,
    /// Where to go on once this one was dealt with.
    pub cursor: Cursor,
}

impl<T: Serialize + DeserializeOwned> TypedWatch<T> {
    /// The next change; none once the node has ended, or after an error of the store. A value that is no `T` is an error
    /// ([`EmbedError::Value`]) after which it goes on.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<TypedChange<T>, EmbedError>> {
        self.watch.next().await.map(|change| self.told(change))
    }

    /// The same, for a thread outside of the runtime.
    pub fn blocking_next(&mut self) -> Option<Result<TypedChange<T>, EmbedError>> {
        self.watch.blocking_next().map(|change| self.told(change))
    }

    fn told(&self, change: Result<Change, EmbedError>) -> Result<TypedChange<T>, EmbedError> {
        let Change { key, value, origin, cursor, .. } = change?;
        let value = value.map(|value| self.of.read(&key, &value)).transpose()?;
        Ok(TypedChange { key, value, origin, cursor })
    }
}
