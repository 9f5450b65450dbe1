//! A session of a pair while it is under way: who speaks with whom, until it ends or somebody interrupts.

use std::sync::Arc;
use std::time::Duration;

use reknit_core::session::Options;
use tokio::sync::watch;

use super::pair::{Pair, Target};
use super::runtime;
use super::with_peer::WithPeer;
use crate::cli::env::Env;
use crate::cli::interrupt::Interrupt;
use crate::cli::{CliError, Exit};
use crate::clock::millis;
use crate::node::{
    Budget, HeldStore, HoldRequest, Home, Node, NodeError, Progress, SessionReport, Windows, between_counted,
    between_witnessed,
};
use crate::store::Side;
use crate::store::linked::TableSession;
use crate::transport::{Address, RateLimits};

/// How a session is to be held.
pub(super) struct Terms {
    pub(super) options: Options,
    pub(super) budget: Budget,
    /// What goes over links is held to.
    pub(super) rate_limits: Arc<RateLimits>,
    /// The names of the collections that it is about; none named: all.
    pub(super) collections: Vec<String>,
}

/// What came of a session, with what another node that held it told of its store.
pub(super) type Ended = Result<(Option<HeldStore>, SessionReport), NodeError>;

/// Holds the session; gives the signal too by which it was interrupted, if it was.
///
/// # Errors
/// `home.file`, or this node could not begin.
pub(super) fn hold(
    env: &Env,
    pair: Pair,
    terms: Terms,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(Ended, Option<Exit>), CliError> {
    let home = env.home()?;
    let windows = env.windows.clone();
    runtime()?.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let interrupt = Interrupt::listen(stop, env.left.clone());
        let ended = match pair {
            Pair::Own(opener, Target::Here(store)) => {
                let pair: (Arc<dyn Side>, Arc<dyn Side>) = (Arc::new(opener), Arc::new(store));
                here(&home, pair, windows, terms, stopped, progress).await
            }
            Pair::Tables(pair) => {
                let [a, b] = *pair;
                let pair: (Arc<dyn Side>, Arc<dyn Side>) = (Arc::new(a), Arc::new(b));
                here(&home, pair, windows, terms, stopped, progress).await
            }
            Pair::Table(with) => {
                let WithPeer { linked, address, .. } = *with;
                there(&home, &address, Arc::new(TableSession::of(linked)), windows, terms, stopped, progress).await?
            }
            Pair::Own(opener, Target::There(address)) => {
                there(&home, &address, Arc::new(opener), windows, terms, stopped, progress).await?
            }
            Pair::Held(a, b) => elsewhere(&home, (&a, &b), terms, stopped, progress).await?,
        };
        Ok((ended, interrupt.exit()))
    })
}

/// Two sides that are here.
async fn here(
    home: &Home,
    pair: (Arc<dyn Side>, Arc<dyn Side>),
    windows: Option<(Arc<Windows>, Duration)>,
    Terms { options, budget, .. }: Terms,
    stopped: watch::Receiver<bool>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Ended {
    let report = match windows {
        Some((windows, within)) => {
            between_counted(home, pair, (&windows, within), options, budget, stopped, progress).await
        }
        None => between_witnessed(home, pair, options, budget, stopped, progress).await,
    };
    report.map(|report| (None, report))
}

/// A side here with a peer.
async fn there(
    home: &Home,
    address: &Address,
    side: Arc<dyn Side>,
    windows: Option<(Arc<Windows>, Duration)>,
    Terms { options, budget, rate_limits, .. }: Terms,
    stopped: watch::Receiver<bool>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Ended, CliError> {
    let node = Node::client(home, address)?.with_rate_limits(rate_limits);
    let report = match windows {
        Some((windows, within)) => {
            let node = node.clone().with_windows(windows);
            node.session_counted(address, side, (options, within), budget, stopped, progress).await
        }
        None => node.session(address, side, options, budget, stopped, progress).await,
    };
    node.shutdown().await;
    Ok(report.map(|report| (None, report)))
}

/// Two peers: the first is asked to hold it.
async fn elsewhere(
    home: &Home,
    (a, b): (&Address, &Address),
    Terms { options, budget, rate_limits, collections }: Terms,
    stopped: watch::Receiver<bool>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Ended, CliError> {
    let node = Node::client(home, a)?.with_rate_limits(rate_limits);
    let request = HoldRequest {
        dataset: a.dataset.clone(),
        with: b.to_string(),
        options,
        collections,
        max_ms: budget.time.map(millis),
        max_bytes: budget.bytes,
    };
    let held = node.hold(a, &request, stopped, progress).await;
    node.shutdown().await;
    Ok(held.map(|(store, report)| (Some(store), report)))
}
