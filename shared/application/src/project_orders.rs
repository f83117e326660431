//! Keeps the order view up to date, on plumbing that repeats, delays and reorders.

use domain::{ids::OrderId, order_view::OrderView, stored_event::UnreadableEvent};

use crate::{
    event_store::{Commit, EventStore, Unavailable},
    ports::{OrderViews, SaveError},
};

/// How often a projection starts over because another one saved first.
const MAX_ATTEMPTS: u32 = 5;

/// Why a commit is not in the view.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    #[error("the event cannot be read")]
    Unreadable(#[from] UnreadableEvent),
    #[error("other projections keep saving first")]
    Contended,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Brings the order's view up to this commit at least.
///
/// A commit that the view already has changes nothing. Before one that comes too early, what is missing is read from the
/// event table, so the order of delivery does not matter. A commit of another aggregate's stream is none of its business.
pub async fn project(store: &impl EventStore, views: &impl OrderViews, commit: &Commit) -> Result<(), ProjectError> {
    let Some(order_id) = commit.stream.order_id() else {
        return Ok(());
    };
    for _ in 0..MAX_ATTEMPTS {
        let view = views.load(order_id).await?;
        let have = view.as_ref().map_or(0, |view| view.version);
        if commit.last_version() <= have {
            return Ok(());
        }
        let view = if commit.version == have.saturating_add(1) {
            fold(order_id, view, std::slice::from_ref(commit))?
        } else {
            fold(order_id, view, &store.read(&commit.stream, have).await?)?
        };
        let Some(view) = view else { return Ok(()) };
        match views.save(&view, have).await {
            Ok(()) => return Ok(()),
            Err(SaveError::Superseded) => {}
            Err(SaveError::Unavailable(error)) => return Err(error.into()),
        }
    }
    Err(ProjectError::Contended)
}

fn fold(id: OrderId, view: Option<OrderView>, commits: &[Commit]) -> Result<Option<OrderView>, UnreadableEvent> {
    let mut view = view;
    for commit in commits {
        for (version, event) in commit.numbered() {
            view = OrderView::evolve(view, id, &event.read()?, version, commit.metadata.occurred_at);
        }
    }
    Ok(view)
}
