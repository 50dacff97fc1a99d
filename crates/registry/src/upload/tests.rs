use super::*;
use cidery_core::memory::MemoryStore;

struct Open {
    uploads: Arc<Uploads>,
    store: MemoryStore,
}

impl Open {
    fn new(max_uploads: usize) -> Self {
        let (config, store) = (Config { max_uploads, ..Config::default() }, MemoryStore::new());
        let uploads =
            Uploads::load(&config, Pressure::new(), Arc::new(store.clone()), Arc::new(store.clone())).unwrap();
        Self { uploads, store }
    }

    /// One with so many bytes, that nobody touched for so many seconds.
    async fn start(&self, bytes: usize, idle: u64) -> Arc<Upload> {
        let upload = self.uploads.start(&Namespace::local(), &"app".parse().unwrap()).unwrap();
        if bytes > 0 {
            self.uploads.append(&upload, Offset::default(), Body::from(vec![7; bytes])).await.unwrap();
            self.uploads.save_now().await;
        }
        *upload.touched.lock() = SystemTime::now() - Duration::from_secs(idle);
        upload
    }

    fn has(&self, upload: &Upload) -> bool {
        self.uploads.get(&upload.namespace, &upload.repository, &upload.id).is_some()
    }
}

#[tokio::test]
async fn interrupted_pushes_keep_nobody_out() {
    let open = Open::new(5);
    let begun = open.start(2 << 20, 4000).await;
    let begun_later = open.start(1, 700).await;
    let at_work = open.start(1, 30).await;
    let empty = open.start(0, 20).await;
    let empty_longer = open.start(0, 60).await;
    for given_up in [empty_longer, empty, begun, begun_later] {
        assert!(open.has(&given_up));
        open.start(0, 0).await;
        assert!(!open.has(&given_up));
        assert!(matches!(given_up.lock().await, Err(UploadError::Ended)));
    }
    // The rest may go on.
    let refused = open.uploads.start(&Namespace::local(), &"app".parse().unwrap());
    assert!(matches!(refused, Err(UploadError::TooMany(5))));
    assert!(open.has(&at_work));
    while !open.store.uploads().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_upload_that_is_written_to_is_not_given_up() {
    let open = Open::new(1);
    let upload = open.start(0, 4000).await;
    let work = upload.work.lock().await;
    let refused = open.uploads.start(&Namespace::local(), &"app".parse().unwrap());
    assert!(matches!(refused, Err(UploadError::TooMany(1))));
    drop(work);
    open.start(0, 0).await;
}
