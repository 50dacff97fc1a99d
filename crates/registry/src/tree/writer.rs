//! The one writer of a namespace: a task that makes all commits that wait together, as one root.

use super::{
    Blob, NodeCache, TreeError,
    again::Again,
    backlinks::Backlinks,
    commit::{Edit, Work},
    fetch::{Cached, Local},
    late::Wanted,
    named::AllNamed,
    overlay::Overlay,
    reader::Reader,
    retire::Retired,
    view::View,
};
use crate::{names, rules::TagRules};
use cidery_core::{
    Blockstore, Cid, CommitError, Hold, Link, Namespace, RepositoryName, RootStore, TagTime, ports::LocalFetcher,
};
use cidery_unixfs::Sizes;
use futures::executor::block_on;
use parking_lot::{Mutex, RwLock};
use std::{collections::BTreeSet, sync::Arc};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::spawn_blocking,
};

/// Commits that are made together at most.
const MAX_GROUP: usize = 256;

/// Tries against a root that others replace at the same time.
const MAX_TRIES: usize = 4;

/// A member of a group, and who waits for it.
pub(super) struct Command {
    pub edit: Edit,
    pub reply: oneshot::Sender<Result<Done, TreeError>>,
}

/// What became of a member: the root after it, and what it did.
pub(super) struct Done {
    pub root: Option<Cid>,
    pub did: Did,
}

impl Done {
    /// Whether there was anything to do, say something to delete.
    pub fn did_something(&self) -> bool {
        match &self.did {
            Did::Something(something) => *something,
            Did::Retired(retired) => !retired.tags.is_empty(),
        }
    }
}

/// What a member did.
pub(super) enum Did {
    /// Something, or there was nothing to do.
    Something(bool),
    /// What it removed for a rule of retention.
    Retired(Retired),
}

/// What the handles of a namespace, and its writer, share.
pub(super) struct Shared {
    pub namespace: Namespace,
    pub blocks: Arc<dyn Blockstore>,
    pub roots: Arc<dyn RootStore>,
    pub cache: Arc<NodeCache>,
    pub state: RwLock<State>,
    pub current: watch::Sender<Option<Cid>>,
    /// Repositories that lost a manifest and were not looked through since.
    pub untidy: Mutex<BTreeSet<RepositoryName>>,
    pub backlinks: Arc<tokio::sync::Mutex<Backlinks>>,
    pub named: AllNamed,
    pub rules: TagRules,
    pub again: Arc<Mutex<Again>>,
    pub sizes: Arc<Sizes>,
    /// What manifests lack.
    pub wanted: Mutex<Wanted>,
    /// Whoever derives them.
    pub preparing: tokio::sync::Mutex<()>,
}

/// A root that is gone through.
pub(super) struct Base {
    pub root: Option<Cid>,
    pub reader: Reader,
    _hold: Arc<dyn Hold>,
}

/// The namespace as it is now. The two change together.
pub(super) struct State {
    pub view: Arc<View>,
    pub overlay: Overlay,
}

/// Runs until the last handle is gone and the queue is empty.
pub(super) async fn run(shared: Arc<Shared>, mut queue: mpsc::Receiver<Command>) {
    let mut group = Vec::new();
    while queue.recv_many(&mut group, MAX_GROUP).await > 0 {
        // Whoever went away before his turn wants nothing any more.
        let members: Vec<Command> = group.drain(..).filter(|member: &Command| !member.reply.is_closed()).collect();
        let shared = shared.clone();
        if spawn_blocking(move || shared.commit_together(members)).await.is_err() {
            // The panic was reported where it happened, and those who wait learn that nobody will answer.
            tracing::error!("a commit was abandoned");
        }
    }
}

impl Shared {
    /// Reads the journal. Blocking.
    pub fn load(
        namespace: Namespace,
        blocks: Arc<dyn Blockstore>,
        roots: Arc<dyn RootStore>,
        rules: TagRules,
    ) -> Result<Self, TreeError> {
        let root = roots.state(&namespace)?.root.map(|entry| entry.cid);
        let mut overlay = Overlay::default();
        for Link { repository, digest, cid, size, .. } in roots.links(&namespace)? {
            overlay.insert(&repository, Blob { digest, cid, size });
        }
        // They are not kept up to date where no rule asks for them.
        for repository in roots.timed_repositories(&namespace)? {
            if !rules.retains(&names::full_name(&namespace, &repository)) {
                let times = roots.tag_times(&namespace, &repository)?;
                let times = times.into_iter().map(|(tag, at)| TagTime::new(repository.clone(), tag, at));
                roots.drop_tags(&namespace, &times.collect::<Vec<_>>())?;
            }
        }
        let cache = Arc::new(NodeCache::default());
        let view = Arc::new(view(&blocks, &cache, root));
        let state = RwLock::new(State { view, overlay });
        let (current, untidy, backlinks) = (watch::Sender::new(root), Mutex::default(), Arc::default());
        let (named, wanted, preparing) = (Arc::default(), Mutex::default(), tokio::sync::Mutex::default());
        let (again, sizes) = Default::default();
        Ok(Self {
            namespace,
            blocks,
            roots,
            cache,
            state,
            current,
            untidy,
            backlinks,
            named,
            rules,
            again,
            sizes,
            wanted,
            preparing,
        })
    }

    /// Commits a group, and answers each member. Blocking.
    fn commit_together(&self, members: Vec<Command>) {
        let (edits, replies): (Vec<_>, Vec<_>) = members.into_iter().map(|member| (member.edit, member.reply)).unzip();
        let results = match self.commit(&edits) {
            Ok(results) => results,
            // Perhaps one member meets a damaged part of the tree: it must not fail the others.
            Err(TreeError::Unixfs(_) | TreeError::Fetch(_) | TreeError::Malformed { .. }) if edits.len() > 1 => {
                let alone = |edit| self.commit(std::slice::from_ref(edit));
                let one =
                    |result: Result<Vec<_>, _>| result.and_then(|mut one| one.pop().unwrap_or(Err(TreeError::Closed)));
                edits.iter().map(|edit| one(alone(edit))).collect()
            }
            Err(error) => edits.iter().map(|_| Err(error.clone())).collect(),
        };
        for (reply, result) in replies.into_iter().zip(results) {
            // Whoever went away meanwhile does not hear that it is done.
            let _ = reply.send(result);
        }
    }

    /// One root for all edits. The outer error concerns all of them.
    fn commit(&self, edits: &[Edit]) -> Result<Vec<Result<Done, TreeError>>, TreeError> {
        let mut tries = 0;
        loop {
            let (root, overlay) = {
                let state = self.state.read();
                (state.view.root, state.overlay.clone())
            };
            let mut work = Work::new(self, root, overlay);
            let results = block_on(apply(&mut work, edits))?;
            match self.replace(root, &work) {
                Err(CommitError::Conflict { current, .. }) if tries < MAX_TRIES => {
                    tries += 1;
                    self.become_root(current, &[], &[]);
                }
                Err(error) => return Err(error.into()),
                Ok(()) => {
                    let root = work.root;
                    let done = |result: Result<Did, TreeError>| result.map(|did| Done { root, did });
                    return Ok(results.into_iter().map(done).collect());
                }
            }
        }
    }

    /// Makes a commit's outcome durable, then visible.
    fn replace(&self, before: Option<Cid>, work: &Work) -> Result<(), CommitError> {
        // Before the root without them: they must not be nowhere in between.
        let unnamed: Vec<Link> = work.unnamed.iter().map(|(repository, blob)| self.link(repository, blob)).collect();
        self.roots.link_all(&unnamed)?;
        match work.root {
            Some(root) if work.root != before => {
                self.roots.commit_tags(&self.namespace, before, root, &work.settled, &work.tagged)?;
            }
            // Nothing new, e.g. an image that was pushed again.
            _ => {
                self.roots.unlink_all(&work.settled)?;
                self.roots.note_tags(&self.namespace, &work.tagged)?;
            }
        }
        self.become_root(work.root, &work.settled, &work.unnamed);
        let files: Vec<Cid> = work.forgotten.iter().map(|(_, cid)| *cid).collect();
        self.roots.forget(&files)?;
        if let Err(error) = self.roots.drop_tags(&self.namespace, &work.untagged) {
            // They are gone all the same: the next run finds times without tags.
            tracing::warn!(namespace = %self.namespace, %error, "the times of tags that are gone are kept");
        }
        self.again.lock().note(&work.again);
        self.untidy.lock().extend(work.untidy.iter().cloned());
        self.want(&work.lacking, &work.arrived);
        Ok(())
    }

    /// The name that rules know a repository by.
    pub fn full_name(&self, repository: &RepositoryName) -> String {
        names::full_name(&self.namespace, repository)
    }

    /// A blob as the journal links it.
    pub fn link(&self, repository: &RepositoryName, blob: &Blob) -> Link {
        let Blob { digest, cid, size } = blob.clone();
        Link { namespace: self.namespace.clone(), repository: repository.clone(), digest, cid, size }
    }

    fn become_root(&self, root: Option<Cid>, settled: &[Link], unnamed: &[(RepositoryName, Blob)]) {
        let mut state = self.state.write();
        for link in settled {
            state.overlay.remove(&link.repository, &link.digest);
        }
        for (repository, blob) in unnamed {
            state.overlay.insert(repository, blob.clone());
        }
        if state.view.root != root {
            state.view = Arc::new(view(&self.blocks, &self.cache, root));
            drop(state);
            self.current.send_replace(root);
        }
    }

    /// Reads for a blocking thread.
    pub fn reader_on_thread(&self, cache: Arc<NodeCache>) -> Reader {
        let fetcher = Arc::new(Local { blocks: self.blocks.clone(), cache: cache.clone() });
        Reader { fetcher, cache, blocks: None }
    }

    /// The current root, to be gone through at leisure on a blocking thread: it is kept from collection, and
    /// does not displace what others have in the cache.
    pub fn base(&self) -> Base {
        let hold = self.blocks.hold();
        let root = self.state.read().view.root;
        root.iter().for_each(|root| hold.keep_all(root));
        Base { root, reader: self.reader_on_thread(Arc::new(NodeCache::none())), _hold: hold }
    }
}

async fn apply(work: &mut Work, edits: &[Edit]) -> Result<Vec<Result<Did, TreeError>>, TreeError> {
    let mut results = Vec::with_capacity(edits.len());
    for edit in edits {
        let did = match edit {
            Edit::Add { repository, image, missing, may } => {
                if work.is_restricted(repository, image, *may) {
                    // What the members before did is looked for in a root.
                    work.flush().await?;
                    if let Err(error) = work.check_allowed(repository, image, *may).await {
                        results.push(Err(error));
                        continue;
                    }
                }
                work.add(repository, image, missing).await.map(|()| true)
            }
            // What is deleted is looked for in a root, so the members before get theirs.
            Edit::Delete { repository, what, unused } => {
                work.flush().await?;
                work.delete(repository, what, *unused).await
            }
            Edit::Unname { repository, found } => {
                work.flush().await?;
                work.unname(repository, found).await
            }
            Edit::Fold { repository, late } => {
                work.flush().await?;
                work.fold(repository, late).await
            }
            Edit::Expire { links } => {
                work.flush().await?;
                work.end(links).await
            }
            Edit::Retire { repository, what } => {
                work.flush().await?;
                results.push(work.retire(repository, what).await.map(Did::Retired));
                continue;
            }
        };
        results.push(did.map(Did::Something));
    }
    work.flush().await?;
    let puts_back = |edit: &Edit| matches!(edit, Edit::Add { .. } | Edit::Fold { .. });
    if edits.iter().any(puts_back) {
        work.still_forgotten().await?;
    }
    work.settle_links();
    Ok(results)
}

/// Reads for async tasks.
fn view(blocks: &Arc<dyn Blockstore>, cache: &Arc<NodeCache>, root: Option<Cid>) -> View {
    let inner = Arc::new(LocalFetcher(blocks.clone()));
    let fetcher = Arc::new(Cached { inner, cache: cache.clone() });
    View::owned(Reader { fetcher, cache: cache.clone(), blocks: Some(blocks.clone()) }, root)
}

/// Blocking work. It fails by itself only when the runtime stops, or the store panicked (which is reported).
pub(super) async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, TreeError> {
    spawn_blocking(work).await.map_err(|_| TreeError::Closed)
}
